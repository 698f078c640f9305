-- Counts replies by the second in which they came, and those that are not 200. Each thread of wrk has its own copy.
local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function init(arguments)
    replies = {}
    refused = 0
end

function response(status)
    local second = tostring(os.time())
    replies[second] = (replies[second] or 0) + 1
    if status ~= 200 then refused = refused + 1 end
end

function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format("errors connect=%d read=%d write=%d timeout=%d status=%d\n",
        e.connect, e.read, e.write, e.timeout, e.status))
    for _, thread in ipairs(threads) do
        io.write(string.format("refused %d\n", thread:get("refused")))
        for second, count in pairs(thread:get("replies")) do
            io.write(string.format("second %s %d\n", second, count))
        end
    end
end
