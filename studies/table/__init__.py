"""The paper's own table, on models whose experts are known."""
