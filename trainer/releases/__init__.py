"""What is served: members packaged, fused, calibrated, made small and fast, and brought back from the registry."""
