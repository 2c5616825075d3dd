"""From prepared data to trained weights: the recipe, the loop, its runs on Ray and in MLflow."""
