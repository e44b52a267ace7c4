"""Customers' own servers, which are told what happens to them."""
