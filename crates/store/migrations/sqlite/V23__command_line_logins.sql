-- When a command-line client's login began: its person sees it beside their browsers.
ALTER TABLE oauth_families ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;
UPDATE oauth_families SET created_at =
    COALESCE((SELECT MIN(api_keys.created_at) FROM api_keys WHERE api_keys.family = oauth_families.id), expires_at);
-- Refresh tokens go when they are long over, as access tokens do.
CREATE INDEX api_keys_refresh_expiry ON api_keys (expires_at) WHERE kind = 'OAUTH_REFRESH';
