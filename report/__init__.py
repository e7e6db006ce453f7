"""What people open: pages, tables, figures."""
