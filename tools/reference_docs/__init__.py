"""What `make docs` writes: pages and tables of docs/, `.env.example`, Grafana's dashboards."""
