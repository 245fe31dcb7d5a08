"""All that speaks HTTP: routes, bodies, problems, the OpenAPI document; one folder a resource."""
