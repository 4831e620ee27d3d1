"""Many questions out of a file, answered in any order and gone on with after any end. Knows no screen."""
