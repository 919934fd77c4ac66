"""The application: verbs over recipes, runs, MLflow and HTTP."""
