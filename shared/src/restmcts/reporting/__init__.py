"""Charts, tables and tree pictures for people. Knows neither databases nor commands."""
