"""Flask: the operations page, for people who run the product. It has a port and a login of its own."""
