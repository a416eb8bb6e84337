/**
 * The script of the page of administrators: logs in, and shows users, rooms, reports, other servers and the audit log. The
 * access token is in memory alone, and ends when the page is left by its button. Content from servers and users is inserted
 * as text, never as HTML.
 */
export const adminScript = `
"use strict"
const $ = (id) => document.getElementById(id)
const make = (tag, props = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), props)
  node.append(...children)
  return node
}
let token

const call = async (method, path, body) => {
  const response = await fetch(path, {
    method,
    headers: token === undefined ? {} : { authorization: "Bearer " + token },
    ...(body === undefined ? {} : { body: JSON.stringify(body) })
  })
  const answer = await response.json().catch(() => ({}))
  if (!response.ok) throw new Error(answer.error || "The server answered " + response.status)
  return answer
}
const admin = (method, path, body) => call(method, "/_synapse/admin" + path, body)
const part = encodeURIComponent
const time = (ms) => (ms ? new Date(ms).toISOString().replace("T", " ").slice(0, 16) : "")
const say = (text) => { $("error").textContent = text || "" }

const confirmed = (title, text, ask) => new Promise((resolve) => {
  const dialog = $("dialog")
  $("dialog-title").textContent = title
  $("dialog-text").textContent = text
  $("reason").value = ""
  $("reason-field").hidden = !ask
  $("reason").required = ask
  dialog.returnValue = ""
  dialog.onclose = () => resolve(dialog.returnValue === "yes" ? $("reason").value || true : undefined)
  dialog.showModal()
})

const table = (columns, rows) => {
  const head = make("thead", {}, make("tr", {}, ...columns.map(([name]) => make("th", { scope: "col", textContent: name }))))
  const body = make("tbody", {}, ...rows.map((row) => make("tr", {}, ...columns.map(([name, cell]) => {
    const content = cell(row)
    const td = make("td", {})
    td.dataset.label = Array.isArray(content) ? "" : name
    if (Array.isArray(content)) { td.className = "acts"; td.append(...content) } else td.textContent = content ?? ""
    return td
  }))))
  return rows.length === 0 ? make("p", { className: "soft", textContent: "Nothing is here." }) : make("table", {}, head, body)
}

const act = (label, about, run) => {
  const button = make("button", { type: "button", textContent: label })
  button.setAttribute("aria-label", label + " " + about)
  button.onclick = async () => {
    say()
    try { if ((await run()) !== false) await show(current) } catch (error) { say(error.message) }
  }
  return button
}

const search = (label, load) => {
  const input = make("input", { type: "search", id: "search" })
  input.setAttribute("aria-label", label)
  input.placeholder = label
  const list = make("div")
  const fill = async () => list.replaceChildren(await load(input.value.trim()))
  const form = make("form", { className: "row" }, input, make("button", { textContent: "Search" }))
  form.onsubmit = (event) => { event.preventDefault(); fill().catch((error) => say(error.message)) }
  return fill().then(() => make("div", {}, form, list))
}

const views = {
  Users: () => search("Name of a user", async (name) => {
    const { users } = await admin("GET", "/v2/users?limit=200&locked=true&deactivated=true" + (name ? "&name=" + part(name) : ""))
    return table([
      ["User", (user) => user.name],
      ["Name", (user) => user.displayname],
      ["Since", (user) => time(user.creation_ts)],
      ["Is", (user) => ["admin", "locked", "suspended", "deactivated"].filter((key) => user[key]).join(", ")],
      ["Actions", (user) => user.deactivated ? "" : [
        act(user.locked ? "Unlock" : "Lock", user.name, () => admin("PUT", "/v2/users/" + part(user.name), { locked: !user.locked })),
        act("Deactivate", user.name, async () =>
          (await confirmed("Deactivate " + user.name + "?", "The account ends, its user ID stays taken. This cannot be undone."))
            ? admin("POST", "/v1/deactivate/" + part(user.name), {}) : false)
      ]]
    ], users)
  }),
  Waiting: async () => {
    const { registrations } = await call("GET", "/_greenroom/admin/v1/registrations")
    const decide = (account, how) => call("POST", "/_greenroom/admin/v1/registrations/" + part(account.user_id) + "/" + how, {})
    return table([
      ["User", (account) => account.user_id],
      ["Since", (account) => time(account.created_ts)],
      ["Actions", (account) => [
        act("Approve", account.user_id, () => decide(account, "approve")),
        act("Reject", account.user_id, async () =>
          (await confirmed("Reject " + account.user_id + "?", "The account ends, its user ID stays taken. This cannot be undone."))
            ? decide(account, "reject") : false)
      ]]
    ], registrations)
  },
  Rooms: () => search("Name, alias or ID of a room", async (term) => {
    const { rooms } = await admin("GET", "/v1/rooms?limit=200&order_by=joined_members" + (term ? "&search_term=" + part(term) : ""))
    return table([
      ["Room", (room) => room.name || room.canonical_alias || room.room_id],
      ["ID", (room) => room.room_id],
      ["Members", (room) => room.joined_members + " (" + room.joined_local_members + " here)"],
      ["Version", (room) => room.version],
      ["Actions", (room) => [
        act("Shut down", room.name || room.room_id, async () =>
          (await confirmed("Shut down " + (room.name || room.room_id) + "?", "Users of this server leave, the room is blocked, and removed from the database."))
            ? admin("DELETE", "/v1/rooms/" + part(room.room_id), { block: true, purge: true }) : false)
      ]]
    ], rooms)
  }),
  Reports: async () => {
    const { event_reports: reports } = await admin("GET", "/v1/event_reports?limit=200")
    return table([
      ["When", (report) => time(report.received_ts)],
      ["By", (report) => report.user_id],
      ["About", (report) => report.sender || report.reported_user_id || report.room_id],
      ["Reason", (report) => report.reason],
      ["Actions", (report) => [act("Done", "with report " + report.id, () => admin("DELETE", "/v1/event_reports/" + report.id))]]
    ], reports)
  },
  Servers: async () => {
    const { destinations } = await call("GET", "/matrix/client/api/v1/admin/destinations")
    return table([
      ["Server", (each) => each.destination],
      ["Last success", (each) => time(each.last_success_ts)],
      ["Waiting", (each) => String(each.queue_length)],
      ["Failure", (each) => each.last_error || ""],
      ["Actions", (each) => [act("Ban", each.destination, async () => {
        const server = each.destination
        const reason = await confirmed("Ban " + server + "?", "It is asked nothing and answered nothing any more.", true)
        return reason ? call("PUT", "/_greenroom/admin/v1/bans/server/" + part(server), { reason }) : false
      })]]
    ], destinations)
  },
  Audit: async () => {
    const [{ entries }, verdict] = [await call("GET", "/_greenroom/admin/v1/audit?limit=200"), await call("GET", "/_greenroom/admin/v1/audit/verify")]
    const whole = verdict.problems.length === 0
    return make("div", {},
      make("p", { className: whole ? "note" : "error", textContent: whole ? "The log is whole: " + verdict.rows + " rows, " + verdict.heads + " signed heads." : verdict.problems.join("; ") }),
      table([
        ["#", (entry) => String(entry.seq)],
        ["When", (entry) => time(entry.at)],
        ["Who", (entry) => entry.actor],
        ["What", (entry) => entry.action],
        ["To", (entry) => entry.target],
        ["Why", (entry) => entry.reason]
      ], entries))
  }
}

let current = "Users"
const show = async (name) => {
  current = name
  say()
  for (const button of $("tabs").children) {
    if (button.textContent === name) button.setAttribute("aria-current", "page")
    else button.removeAttribute("aria-current")
  }
  const content = await views[name]()
  if (current !== name) return
  $("heading").textContent = name
  $("view").replaceChildren(content)
}
for (const name of Object.keys(views)) {
  const button = make("button", { type: "button", textContent: name })
  button.onclick = () => show(name).then(() => $("heading").focus(), (error) => say(error.message))
  $("tabs").append(button)
}

$("login").onsubmit = async (event) => {
  event.preventDefault()
  say()
  try {
    const answer = await call("POST", "/_matrix/client/v3/login", {
      type: "m.login.password",
      identifier: { type: "m.id.user", user: $("user").value },
      password: $("password").value,
      initial_device_display_name: "Administration page"
    })
    token = answer.access_token
    try { await admin("GET", "/v1/server_version") } catch (error) {
      await call("POST", "/_matrix/client/v3/logout", {}).catch(() => undefined)
      token = undefined
      throw error
    }
    $("password").value = ""
    $("who").textContent = answer.user_id
    $("login-view").hidden = true
    $("app").hidden = false
    await show("Users")
    $("heading").focus()
  } catch (error) { say(error.message) }
}
$("logout").onclick = async () => {
  await call("POST", "/_matrix/client/v3/logout", {}).catch(() => undefined)
  location.reload()
}
`
