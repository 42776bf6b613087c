"""The pages of a study: participants' and the operator's, rendered by the server."""
