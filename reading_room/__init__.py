"""The browser app: a page, its intake of files, and the API behind it. The only package that imports gradio."""
