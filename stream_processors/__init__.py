"""The Faust apps: step 2 of a clip's path, analyse, in two lanes."""
