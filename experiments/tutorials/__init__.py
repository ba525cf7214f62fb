"""Short programs that extend the package from outside; the tests run them."""
