"""The nouns of basewise: frozen, typed values that every layer above speaks in. No torch here."""
