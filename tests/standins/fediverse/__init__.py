"""A fake ActivityPub server (Pixelfed and Mastodon calls), standard library only."""
