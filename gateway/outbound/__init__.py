"""Everything that this service fetches or calls because somebody named a URL."""
