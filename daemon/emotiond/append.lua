-- Appends entries to a stream only if its last id is the one the writer knows.
-- KEYS[1]  the stream
-- ARGV[1]  the last id the writer knows, '' to ask only
-- ARGV[2]  entries to keep, about; 0 keeps all
-- ARGV[3]  number of field and value arguments of each entry
-- ARGV[4...]  for each entry: its id, then its fields and values
-- Returns {1, last id} after writing, {2, last id} after writing to a key that was gone, {0, last id} otherwise.
local last = '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = info[i + 1] end
  end
end
local known = ARGV[1]
local gone = last == '0-0' and known ~= '0-0'
if known == '' or (last ~= known and not gone) then
  return {0, last}
end
local width = tonumber(ARGV[3])
for first = 4, #ARGV, width + 1 do
  if ARGV[2] == '0' then
    last = redis.call('XADD', KEYS[1], unpack(ARGV, first, first + width))
  else
    last = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], unpack(ARGV, first, first + width))
  end
end
return {gone and 2 or 1, last}
