"""Unmodified clients: `from_pretrained` of transformers and peft, in processes of their own."""

from demo.emulation.clients.start import Answer, ClientError, Question, ask_client

__all__ = ["Answer", "ClientError", "Question", "ask_client"]
