"""How good an editor is: metrics, the methods it is compared with, sweeps, and the report."""
