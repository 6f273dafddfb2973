-- A batch has been cancelled: what is left of it goes on. ARGV: batch, now. Gives the grants.
local batch, now, grants, providers = ARGV[1], tonumber(ARGV[2]), {}, {}
if redis.call('HGET', batch_key(batch), 'paused') ~= 'cancel' then return grants end
resume_batch(batch)
add_providers_of_batch(batch, providers)
fill_all(providers, now, grants)
return grants
