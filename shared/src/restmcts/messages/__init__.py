"""Commands and events that travel between services, and the tables that name and route them."""
