"""Recipes: data sets as papers use them, from the files in which they are distributed."""
