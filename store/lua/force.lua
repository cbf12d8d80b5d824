-- force: open or close a breaker because somebody says so. One that is closed so recovers: nobody is let through at once.
-- KEYS[1] perdure:{@dep}:d:<name>   KEYS[2] perdure:{@dep}:board    KEYS[3] perdure:{@dep}:names
-- KEYS[4] perdure:{@dep}:events     KEYS[5] perdure:{@dep}:votes:<name>
-- KEYS[6] perdure:{@dep}:decided:<nonce> of this decision
-- ARGV[1] name   ARGV[2] 'open' or 'close'   ARGV[3] actor   ARGV[4] reason
-- Returns 1 done; 2 it was so before. Sent twice, what it answered before. One that was opened so stays open until
-- somebody closes it: no probe is made.
local before = taken(KEYS[6])
if before then return before end
local _, now_ms = clock()
local had = redis.call('HMGET', KEYS[1], 'state', 'forced')
if ARGV[2] == 'open' then
  if had[1] == 'open' and had[2] == '1' then return 2 end
  opens(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], ARGV[3], ARGV[4], true)
else
  if had[1] ~= 'open' then return 2 end
  recovers(KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[1], now_ms, 1, ARGV[3], ARGV[4])
end
return took(KEYS[6], 1)
