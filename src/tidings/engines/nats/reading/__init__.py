"""Reading streams: pulling, temporary subscriptions, members of groups."""
