"""The steps of FRet, in their order."""
