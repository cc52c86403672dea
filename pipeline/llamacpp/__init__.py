"""GGUF files, which llama.cpp and Ollama read: written, read, and held against transformers."""
