"""KServe v2: routes, shapes and examples."""
