-- A callback that a step is told of. Of ARGV the last ten: its delivery's key ('' where it has none), the digest of
-- what it brings, for how long both are remembered, how many the journal keeps, how many are parked, at, provider,
-- account, attempt, body
-- What it is where its delivery was taken before: 'again' the very same, or the 'replay' of one with something else
local function taken_before()
  local delivery, digest = ARGV[#ARGV - 9], ARGV[#ARGV - 8]
  local taken = delivery ~= '' and redis.call('GET', delivery)
  return taken and (taken == digest and 'again' or 'replay')
end

-- What it led to. One that was refused may come again.
local function note(word)
  local delivery, digest, remembered, recent, parked, at, provider, account, attempt, body = unpack(ARGV, #ARGV - 9)
  local key, kept = P .. 'callbacks', recent
  if word == 'unknown' or word == 'unreadable' then key, kept = P .. 'parked', parked end
  redis.call('XADD', key, 'MAXLEN', '~', kept, '*', 'at', at, 'provider', provider, 'account', account,
    'attempt', attempt, 'word', word, 'body', body)
  if delivery ~= '' and word ~= 'mismatch' and word ~= 'unreadable' then
    redis.call('SET', delivery, digest, 'EX', remembered)
  end
end
