-- Asks spamgate about each message: symbols SPAMGATE_SPAM and SPAMGATE_HAM, whose weight is how sure
-- it is, 0 to 1. Scores stand in local.d/groups.conf. Without an answer nothing is added.
local rspamd_http = require "rspamd_http"
local rspamd_logger = require "rspamd_logger"
local ucl = require "ucl"

local N = "spamgate"
local settings = {
  url = "http://127.0.0.1:8000/classify/message",
  timeout = 4.0, -- seconds; a task of rspamd has 8
  key = nil, -- an access key of the service
}
for name, value in pairs(rspamd_config:get_all_opt(N) or {}) do
  settings[name] = value
end

local function check(task)
  local function on_reply(err, code, body)
    if err or code ~= 200 then
      rspamd_logger.infox(task, "%s: no verdict: %s", N, err or code)
      return
    end
    local parser = ucl.parser()
    local ok, parse_error = parser:parse_string(tostring(body))
    local reply = ok and parser:get_object()
    local result = reply and reply.results and reply.results[1]
    if not result then
      rspamd_logger.infox(task, "%s: unknown reply: %s", N, parse_error)
      return
    end
    local spam = result.probabilities.spam
    local option = string.format("%.4f", spam)
    if spam >= 0.5 then
      task:insert_result("SPAMGATE_SPAM", 2 * spam - 1, option)
    else
      task:insert_result("SPAMGATE_HAM", 1 - 2 * spam, option)
    end
  end

  rspamd_http.request({
    task = task,
    url = settings.url,
    body = task:get_content(),
    mime_type = "message/rfc822",
    headers = settings.key and { ["X-API-Key"] = settings.key } or {},
    timeout = settings.timeout,
    keepalive = true,
    callback = on_reply,
  })
end

local id = rspamd_config:register_symbol({
  name = "SPAMGATE_CHECK",
  type = "callback",
  flags = "nice",
  callback = check,
})
for _, symbol in ipairs({ "SPAMGATE_SPAM", "SPAMGATE_HAM" }) do
  rspamd_config:register_symbol({ name = symbol, type = "virtual", parent = id })
end
