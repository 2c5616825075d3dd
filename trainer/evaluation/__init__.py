"""How well a release hears: frozen sets, slices, strain, rivals, and one page that shows it."""
