"""Who a caller is and what it may do: API keys, tokens, roles, quotas."""
