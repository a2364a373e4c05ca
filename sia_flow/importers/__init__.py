"""Importers: task folders of other systems made into tasks of a project. They read and copy, and execute nothing."""
