/**
 * The script of the page of administrators: logs in, and shows users, rooms, reports, other servers and the audit log, a page of
 * rows at a time. The access token is kept in memory only; the button for leaving logs it out. Content from servers and users is
 * inserted as text, never as HTML, shortened, and isolated from the direction of the surrounding text.
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

const cut = (text, most) => {
  const characters = [...String(text ?? "")]
  return characters.length > most ? characters.slice(0, most).join("") + "\u2026" : characters.join("")
}
const foreign = (text, most = 200) => make("bdi", { textContent: cut(text, most) })

const call = async (method, path, body) => {
  const sent = token
  const response = await fetch(path, {
    method,
    headers: sent === undefined ? {} : { authorization: "Bearer " + sent },
    ...(body === undefined ? {} : { body: JSON.stringify(body) })
  }).catch(() => { throw new Error("The server does not answer. Try again.") })
  const answer = await response.json().catch(() => ({}))
  if (response.ok) return answer
  if (response.status === 401 && sent !== undefined) {
    const error = new Error("You are logged out. Log in again.")
    if (sent === token) leave()
    throw error
  }
  throw new Error(answer.error || "The server answered " + response.status)
}
const admin = (method, path, body) => call(method, "/_synapse/admin" + path, body)
const part = encodeURIComponent
const query = (values) =>
  "?" + Object.entries(values).filter(([, value]) => value !== undefined && value !== "").map(([name, value]) => name + "=" + part(value)).join("&")
const time = (ms) => (ms ? new Date(ms).toISOString().replace("T", " ").slice(0, 16) : "")
const number = (count) => count.toLocaleString("en")
const plural = (count, noun) => number(count) + " " + noun + (count === 1 ? "" : "s")
const say = (text) => { $("error").textContent = text || "" }
const tell = (text) => { $("status").textContent = text || "" }

const leave = () => {
  token = undefined
  if ($("dialog").open) $("dialog").close("")
  $("view").replaceChildren()
  $("app").hidden = true
  $("login-view").hidden = false
  $("user").focus()
}

const confirmed = (verb, subject, text, ask) => new Promise((resolve) => {
  const dialog = $("dialog")
  $("dialog-title").replaceChildren(verb + " ", foreign(subject.name, 80), "?")
  $("dialog-subject").replaceChildren(...(subject.id ? [foreign(subject.id)] : []))
  $("dialog-text").textContent = text
  $("reason").value = ""
  $("reason-field").hidden = !ask
  $("reason").required = ask === true
  dialog.returnValue = ""
  dialog.onclose = () => resolve(dialog.returnValue === "yes" ? $("reason").value || true : undefined)
  dialog.showModal()
})

const act = (label, about, run) => {
  const button = make("button", { type: "button", textContent: label })
  button.setAttribute("aria-label", label + " " + cut(about, 80))
  button.onclick = async () => {
    say()
    tell()
    const view = current
    button.disabled = true
    try {
      const done = await run()
      if (done !== false && current === view) {
        await refresh(button.closest("tr").dataset.key)
        tell(done)
      }
    } catch (error) { say(error.message) } finally { button.disabled = false }
  }
  return button
}

const rowOf = ({ columns, key }, row) => {
  const tr = make("tr", {}, ...columns.map(([name, cell]) => {
    const content = cell(row)
    const td = make("td")
    td.dataset.label = Array.isArray(content) ? "" : name
    if (Array.isArray(content)) { td.className = "acts"; td.append(...content) }
    else if (content !== undefined && content !== null && content !== "") td.append(foreign(content))
    return td
  }))
  tr.dataset.key = String(key(row))
  return tr
}

const pageSize = 100
const largestPage = 1000
let refresh = async () => undefined

const list = async (view) => {
  const { columns, load, search } = view
  const body = make("tbody")
  const head = make("thead", {}, make("tr", {}, ...columns.map(([name]) => make("th", { scope: "col", textContent: name }))))
  const table = make("table", {}, head, body)
  const count = make("p", { className: "soft small" })
  const more = make("button", { type: "button", className: "plain", textContent: "Show more" })
  const input = make("input", { type: "search", placeholder: search || "" })
  let state = { term: "", next: undefined, total: 0 }

  const show = () => {
    const shown = body.children.length
    table.hidden = shown === 0
    more.hidden = state.next === undefined
    count.textContent = shown === 0
      ? state.term ? "No matches." : "No entries."
      : state.next === undefined ? "" : state.total ? number(shown) + " of " + number(state.total) : number(shown) + " are shown"
  }
  let turn = 0
  const fill = async (term, wanted) => {
    const mine = ++turn
    const rows = []
    let page = { next: undefined, total: 0 }
    do {
      page = await load(term, page.next, Math.min(largestPage, wanted - rows.length))
      rows.push(...page.rows)
    } while (page.next !== undefined && page.rows.length > 0 && rows.length < wanted)
    if (mine !== turn) return
    state = { term, next: page.next, total: page.total }
    body.replaceChildren(...rows.map((row) => rowOf(view, row)))
    show()
  }
  more.onclick = async () => {
    say()
    more.disabled = true
    const mine = ++turn
    const before = body.children.length
    try {
      const page = await load(state.term, state.next, pageSize)
      if (mine !== turn) return
      state = { ...state, next: page.next, total: page.total }
      body.append(...page.rows.map((row) => rowOf(view, row)))
      show()
    } catch (error) { say(error.message) } finally { more.disabled = false }
    const [button] = body.children[before]?.querySelectorAll("button") ?? []
    if (button) button.focus()
  }
  const form = make("form", { className: "row" }, input, make("button", { textContent: "Search" }))
  input.setAttribute("aria-label", search || "")
  form.onsubmit = (event) => {
    event.preventDefault()
    say()
    fill(input.value.trim(), pageSize).catch((error) => say(error.message))
  }
  await fill("", pageSize)
  return {
    node: make("div", {}, ...(search ? [form] : []), table, count, more),
    refresh: async (key) => {
      await fill(state.term, Math.max(pageSize, body.children.length))
      const row = [...body.children].find((tr) => tr.dataset.key === key)
      const button = row && row.querySelector("button")
      ;(button || $("heading")).focus()
    }
  }
}

const views = {
  Users: () => list({
    search: "Name of a user",
    key: (user) => user.name,
    load: async (name, from, limit) => {
      const { next_token: next, total, users: rows } = await admin("GET", "/v2/users" + query({ limit, from, name, locked: true, deactivated: true }))
      return { rows, next, total }
    },
    columns: [
      ["User", (user) => user.name],
      ["Name", (user) => user.displayname],
      ["Registered", (user) => time(user.creation_ts)],
      ["Status", (user) => ["admin", "locked", "suspended", "deactivated"].filter((key) => user[key]).join(", ")],
      ["Actions", (user) => user.deactivated ? "" : [
        ...(user.admin && !user.locked ? [] : [act(user.locked ? "Unlock" : "Lock", user.name, async () => {
          await admin("PUT", "/v2/users/" + part(user.name), { locked: !user.locked })
          return user.name + (user.locked ? " is no longer locked" : " is locked")
        })]),
        act("Deactivate", user.name, async () => {
          if (!(await confirmed("Deactivate", user, "The account is deactivated, and its user ID cannot be registered again. This cannot be undone."))) return false
          await admin("POST", "/v1/deactivate/" + part(user.name), {})
          return user.name + " is deactivated"
        })
      ]]
    ]
  }),
  Waiting: () => {
    const decide = (account, how) => call("POST", "/_greenroom/admin/v1/registrations/" + part(account.user_id) + "/" + how, {})
    return list({
      key: (account) => account.user_id,
      load: async () => {
        const { registrations: rows } = await call("GET", "/_greenroom/admin/v1/registrations")
        return { rows, next: undefined, total: rows.length }
      },
      columns: [
        ["User", (account) => account.user_id],
        ["Registered", (account) => time(account.created_ts)],
        ["Actions", (account) => [
          act("Approve", account.user_id, async () => {
            await decide(account, "approve")
            return account.user_id + " is approved"
          }),
          act("Reject", account.user_id, async () => {
            if (!(await confirmed("Reject", { name: account.user_id }, "The account is deactivated, and its user ID cannot be registered again. This cannot be undone."))) return false
            await decide(account, "reject")
            return account.user_id + " is rejected"
          })
        ]]
      ]
    })
  },
  Rooms: () => {
    const nameOf = (room) => room.name || room.canonical_alias || room.room_id
    return list({
      search: "Name, alias or ID of a room",
      key: (room) => room.room_id,
      load: async (term, from, limit) => {
        const page = await admin("GET", "/v1/rooms" + query({ limit, from, order_by: "joined_members", search_term: term }))
        return { rows: page.rooms, next: page.next_batch, total: page.total_rooms }
      },
      columns: [
        ["Room", nameOf],
        ["ID", (room) => room.room_id],
        ["Members", (room) => number(room.joined_members) + " (" + number(room.joined_local_members) + " here)"],
        ["Version", (room) => room.version],
        ["Actions", (room) => [act("Shut down", nameOf(room), async () => {
          const subject = { name: nameOf(room), id: room.room_id }
          if (!(await confirmed("Shut down", subject, "All members of this server leave. The room is blocked and deleted from the database."))) return false
          await admin("DELETE", "/v1/rooms/" + part(room.room_id), { block: true, purge: true })
          return "The room is shut down"
        })]]
      ]
    })
  },
  Reports: () => list({
    key: (report) => report.id,
    load: async (term, from, limit) => {
      const page = await call("GET", "/_greenroom/admin/v1/reports" + query({ limit, from }))
      return { rows: page.reports, next: page.next_token, total: page.total }
    },
    columns: [
      ["When", (report) => time(report.received_ts)],
      ["By", (report) => report.user_id],
      ["About", (report) => report.sender || report.reported_user_id || report.room_id],
      ["Reason", (report) => report.reason],
      ["Actions", (report) => [act("Done", "with report " + report.id, async () => {
        await call("DELETE", "/_greenroom/admin/v1/reports/" + report.id)
        return "Report " + report.id + " is resolved"
      })]]
    ]
  }),
  Servers: () => list({
    search: "Name of a server",
    key: (server) => server.destination,
    load: async (destination, from, limit) => {
      const page = await admin("GET", "/v1/federation/destinations" + query({ limit, from, destination }))
      return { rows: page.destinations, next: page.next_token, total: page.total }
    },
    columns: [
      ["Server", (server) => server.destination],
      ["Last success", (server) => time(server.last_success_ts)],
      ["Waiting", (server) => number(server.queue_length)],
      ["Failure", (server) => server.last_error],
      ["Actions", (server) => [act("Ban", server.destination, async () => {
        const reason = await confirmed("Ban", { name: server.destination }, "This server sends it no more requests and refuses all of its requests.", true)
        if (!reason) return false
        await call("PUT", "/_greenroom/admin/v1/bans/server/" + part(server.destination), { reason })
        return server.destination + " is banned"
      })]]
    ]
  }),
  Audit: async () => {
    const entries = await list({
      key: (entry) => entry.seq,
      load: async (term, before, limit) => {
        const page = await call("GET", "/_greenroom/admin/v1/audit" + query({ limit, before }))
        return { rows: page.entries, next: page.next, total: 0 }
      },
      columns: [
        ["#", (entry) => String(entry.seq)],
        ["When", (entry) => time(entry.at)],
        ["By", (entry) => entry.actor],
        ["Action", (entry) => entry.action],
        ["Target", (entry) => entry.target],
        ["Reason", (entry) => entry.reason],
        ["Parameters", (entry) => Object.keys(entry.details).length === 0 ? "" : JSON.stringify(entry.details)]
      ]
    })
    const { heads, problems, rows } = await call("GET", "/_greenroom/admin/v1/audit/verify")
    const verdict = problems.length === 0
      ? make("p", { className: "note", textContent: "The audit log is intact: " + plural(rows, "row") + ", " + plural(heads, "signed head") + "." })
      : make("p", { className: "error", textContent: problems.slice(0, 20).join("; ") + (problems.length > 20 ? "; and more" : "") })
    return { node: make("div", {}, verdict, entries.node), refresh: entries.refresh }
  }
}

let current = "Users"
const show = async (name) => {
  current = name
  say()
  tell()
  for (const button of $("tabs").children) {
    if (button.textContent === name) button.setAttribute("aria-current", "page")
    else button.removeAttribute("aria-current")
  }
  const view = await views[name]()
  if (current !== name || token === undefined) return
  refresh = view.refresh
  $("heading").textContent = name
  $("view").replaceChildren(view.node)
}
for (const name of Object.keys(views)) {
  const button = make("button", { type: "button", textContent: name })
  button.onclick = () => show(name).then(() => { if (token !== undefined) $("heading").focus() }, (error) => say(error.message))
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
    $("who").replaceChildren(foreign(answer.user_id, 80))
    $("login-view").hidden = true
    $("app").hidden = false
    await show(current)
    $("heading").focus()
  } catch (error) { say(error.message) }
}
$("logout").onclick = async () => {
  await call("POST", "/_matrix/client/v3/logout", {}).catch(() => undefined)
  location.reload()
}
`
