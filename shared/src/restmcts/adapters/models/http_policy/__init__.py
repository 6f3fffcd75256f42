"""Policies behind HTTP: text-generation-inference, and whatever speaks the completions or chat
protocol of OpenAI.
"""
