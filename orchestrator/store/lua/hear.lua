-- Takes a callback before the final one. ARGV: attempt, provider, upstream id, says_whose (1 | 0), the callback
-- Gives {word}; word: pending | mismatch | unknown | again | replay. Or {'nameless', account, timing}, with nothing done,
-- where the upstream id that it brings is to be recorded first
local attempt, provider, upstream_id = ARGV[1], ARGV[2], ARGV[3]
local before = taken_before()
if before then return {before} end
local held = redis.call('HMGET', attempt_key(attempt), 'state', 'upstream_id', 'account', 'timing')
local known_as = held[2] ~= '' and held[2]
local word = 'pending'
if not held[1] then
  word = 'unknown'
elseif known_as then
  if known_as ~= upstream_id then word = 'mismatch' end
elseif ARGV[4] == '1' then
  return {'nameless', held[3], held[4] or provider .. '/'}
end
count(provider, 'callbacks')
note(word)
return {word}
