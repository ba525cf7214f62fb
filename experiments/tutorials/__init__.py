"""Short programs that extend the package from outside, and read what it leaves; the tests run them."""
