-- Grants free slots of a provider to who waits. ARGV: now, provider
local grants = {}
fill(ARGV[2], tonumber(ARGV[1]), grants)
return grants
