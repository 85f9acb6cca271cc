"""The ways through: open, align, measure, cost, findings, record."""
