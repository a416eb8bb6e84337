import { request } from "node:http"
import { assert, layer } from "@effect/vitest"
import { ContactStore } from "@greenroom/store/ContactStore"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { Gateway } from "../../src/Gateway.ts"
import {
  type Answer,
  type Ask,
  ask,
  askToday,
  createRoom,
  gateway,
  passwordOf,
  register,
  type TestUser
} from "../TestGateway.ts"

const path = "/unstable/org.greenroom/contacts"

interface Listed {
  readonly contact_id: string
  readonly etag: string
  readonly uid: string
  readonly name: string
  readonly user_ids: ReadonlyArray<string>
  readonly card: readonly ["vcard", ReadonlyArray<readonly [string, object, string, unknown]>]
}

const contactsOf =
  (user: TestUser) =>
  (method: string, rest: string, options: Ask = {}) =>
    askToday(method, `${path}${rest}`, { token: user.token, ...options })

const vcard = (...lines: ReadonlyArray<string>) =>
  ["BEGIN:VCARD", "VERSION:4.0", ...lines, "END:VCARD", ""].join("\r\n")

const importFile = (user: TestUser, body: string | Uint8Array, type = "text/vcard", query = "") =>
  contactsOf(user)("POST", `/import${query}`, { body: body as never, headers: { "content-type": type } })

const listOf = (user: TestUser, query = "") =>
  Effect.map(contactsOf(user)("GET", query), ({ body }) => body.contacts as ReadonlyArray<Listed>)

const names = (user: TestUser, query = "") => Effect.map(listOf(user, query), (all) => all.map(({ name }) => name))

const valuesOf = ({ card: [, properties] }: Listed, name: string) =>
  properties.filter(([property]) => property === name).map(([, , , value]) => value)

const counts = ({ body: { created, merged, total, unchanged } }: Answer) => [created, merged, unchanged, total]

layer(gateway, { excludeTestServices: true, timeout: "60 seconds" })("the address book", (it) => {
  it.effect("contacts are imported and exported as vCard and jCard without loss, by both generations of the API", () =>
    Effect.gen(function* () {
      const alice = yield* register("book-alice")
      const text =
        vcard(
          "UID:urn:uuid:1",
          "FN:Zoë Ünïcode 😀",
          "N:Ünïcode;Zoë;;;",
          "item1.EMAIL;TYPE=work:zoe@example.org",
          "item1.X-ABLABEL:Büro",
          'TEL;VALUE=uri;TYPE="voice,home";PREF=1:tel:+49-30-123456',
          'ADR;LABEL="Main Street 1\\nTown":;;Main Street 1;Town;;12345;Germany',
          "BDAY:--0203",
          "NOTE:A long note that is folded\\, with a comma\\; and a new\\nline",
          " and more",
          "RELATED;TYPE=friend:urn:uuid:2",
          "X-UNKNOWN;X-P=a:whatever"
        ) +
        vcard("UID:urn:uuid:2", "FN:Adam", "KIND:group", "MEMBER:urn:uuid:1", "MEMBER:urn:uuid:2", "RELATED:urn:uuid:1")
      assert.deepStrictEqual(counts(yield* importFile(alice, text)), [2, 0, 0, 2])
      const [adam, zoe] = yield* listOf(alice)
      assert.deepStrictEqual([adam?.name, zoe?.name], ["Adam", "Zoë Ünïcode 😀"])
      assert.deepStrictEqual(valuesOf(zoe!, "note"), [
        "A long note that is folded, with a comma; and a new\nlineand more"
      ])
      assert.deepStrictEqual(valuesOf(adam!, "member"), ["urn:uuid:1", "urn:uuid:2"])

      const exported = yield* contactsOf(alice)("GET", "/export")
      assert.match(exported.headers.get("content-type") ?? "", /^text\/vcard/)
      const asJson = yield* ask("GET", "/contacts/export?format=jcard", { token: alice.token })
      assert.strictEqual(asJson.headers.get("content-type"), "application/vcard+json")
      assert.deepStrictEqual(asJson.body as unknown, [adam?.card, zoe?.card])

      const bob = yield* register("book-bob")
      assert.deepStrictEqual(counts(yield* importFile(bob, exported.text)), [2, 0, 0, 2])
      const carol = yield* register("book-carol")
      assert.deepStrictEqual(counts(yield* importFile(carol, asJson.text, "application/vcard+json")), [2, 0, 0, 2])
      const cards = (all: ReadonlyArray<Listed>) => all.map(({ card }) => card)
      assert.deepStrictEqual(cards(yield* listOf(bob)), [adam!.card, zoe!.card])
      assert.deepStrictEqual(cards(yield* listOf(carol)), [adam!.card, zoe!.card])
      // A second import of the file changes nothing.
      assert.deepStrictEqual(counts(yield* importFile(bob, exported.text)), [0, 0, 2, 2])
      const inDraft = yield* ask("GET", "/contacts", { token: bob.token })
      assert.strictEqual((inDraft.body.contacts as ReadonlyArray<Listed>).length, 2)
      const later = yield* ask("GET", "//_matrix/client/api/v1/contacts", { token: bob.token })
      assert.deepStrictEqual(later.body, inDraft.body)
    })
  )

  it.effect("vCard 3.0 is converted to 4.0, and missing properties are added", () =>
    Effect.gen(function* () {
      const alice = yield* register("old-alice")
      const old = (...lines: ReadonlyArray<string>) => vcard(...lines).replace("4.0", "3.0")
      const text =
        old("N:Doe;John;;;", "TEL;TYPE=CELL;TYPE=PREF:+1 (555) 010-9999", "PHOTO;ENCODING=b;TYPE=JPEG:/9j/4AAQ") +
        old("EMAIL;type=INTERNET:nameless@example.org")
      assert.deepStrictEqual(counts(yield* importFile(alice, text)), [2, 0, 0, 2])
      const [john, nameless] = yield* listOf(alice)
      assert.deepStrictEqual(
        [valuesOf(john!, "version"), valuesOf(john!, "fn"), valuesOf(john!, "photo"), valuesOf(nameless!, "fn")],
        [["4.0"], ["John Doe"], ["data:image/jpeg;base64,/9j/4AAQ"], ["nameless@example.org"]]
      )
      const { text: exported } = yield* contactsOf(alice)("GET", "/export")
      assert.match(exported, /TEL;TYPE=cell;PREF=1;/i)
      const wrong = yield* importFile(alice, old("FN:x").replace("3.0", "2.1"))
      assert.deepStrictEqual([wrong.status, wrong.body.errcode], [400, "M_INVALID_PARAM"])
      assert.match(wrong.body.error, /Card 1: VERSION/)
    })
  )

  it.effect("cards with the same UID, email address or phone number are merged", () =>
    Effect.gen(function* () {
      const alice = yield* register("merge-alice")
      yield* importFile(
        alice,
        vcard("UID:a", "FN:Ann Old", "EMAIL:Ann@Example.org", "BDAY:19800101") +
          vcard("UID:b", "FN:B", "TEL:+49 30 123-456") +
          vcard("UID:c", "FN:Unrelated")
      )
      // A new name for a UID, and a card with the address of one contact and the number of another.
      const second =
        vcard("UID:a", "FN:Ann New", "BDAY:19800102") +
        vcard("UID:d", "FN:Ann D", "EMAIL:ann@example.ORG", "TEL:0049 (30) 123456")
      assert.deepStrictEqual(counts(yield* importFile(alice, second)), [0, 2, 0, 2])
      const [ann, other] = yield* listOf(alice)
      assert.deepStrictEqual([ann?.uid, other?.name], ["a", "Unrelated"])
      assert.deepStrictEqual(valuesOf(ann!, "fn"), ["Ann New", "B", "Ann D"])
      assert.deepStrictEqual(valuesOf(ann!, "bday"), ["1980-01-02"])
      assert.strictEqual(valuesOf(ann!, "email").length, 1)
      assert.strictEqual(valuesOf(ann!, "tel").length, 1)
      const shared = vcard("UID:x", "FN:Office 1", "TEL:+4930999999") + vcard("UID:y", "FN:Office 2", "TEL:+4930999999")
      assert.deepStrictEqual(counts(yield* importFile(alice, shared, "text/vcard", "?merge=uid")), [2, 0, 0, 4])
    })
  )

  it.effect("a contact is added, read, changed and removed, with its ETag", () =>
    Effect.gen(function* () {
      const alice = yield* register("one-alice")
      const eve = yield* register("one-eve")
      const card = (...more: ReadonlyArray<unknown>) => [
        "vcard",
        [["version", {}, "text", "4.0"], ["fn", {}, "text", "Dan"], ...more]
      ]
      const added = yield* contactsOf(alice)("POST", "", { json: { card: card() } })
      assert.strictEqual(added.status, 200, added.text)
      const { contact_id: id, etag, uid } = added.body as unknown as Listed
      assert.strictEqual(added.headers.get("etag"), etag)
      // A retry adds nothing.
      assert.strictEqual((yield* contactsOf(alice)("POST", "", { json: { card: card() } })).body.contact_id, id)
      for (const method of ["GET", "PUT", "DELETE"]) {
        const foreign = yield* contactsOf(eve)(method, `/${id}`, method === "PUT" ? { json: { card: card() } } : {})
        assert.deepStrictEqual([foreign.status, foreign.body.errcode], [404, "M_NOT_FOUND"])
      }
      const same = yield* contactsOf(alice)("GET", `/${id}`, { headers: { "if-none-match": etag } })
      assert.strictEqual(same.status, 304)
      const email = ["email", {}, "text", "dan@example.org"]
      const changed = yield* contactsOf(alice)("PUT", `/${id}`, {
        json: { card: card(email) },
        headers: { "if-match": etag }
      })
      assert.deepStrictEqual([changed.status, changed.body.uid], [200, uid])
      assert.notStrictEqual(changed.body.etag, etag)
      const late = yield* contactsOf(alice)("PUT", `/${id}`, { json: { card: card() }, headers: { "if-match": etag } })
      assert.deepStrictEqual([late.status, late.body.errcode], [412, "M_UNKNOWN"])
      assert.strictEqual((yield* contactsOf(alice)("DELETE", `/${id}`, { headers: { "if-match": etag } })).status, 412)
      assert.strictEqual((yield* contactsOf(alice)("DELETE", `/${id}`)).status, 200)
      assert.strictEqual((yield* contactsOf(alice)("GET", `/${id}`)).status, 404)
      assert.deepStrictEqual(yield* names(alice), [])
      const bad = yield* contactsOf(alice)("POST", "", {
        json: { card: ["vcard", [["fn", { a: null }, "text", "x"]]] }
      })
      assert.deepStrictEqual([bad.status, bad.body.errcode], [400, "M_INVALID_PARAM"])
    })
  )

  it.effect("contacts are listed in pages by name, and searched by name, address or number", () =>
    Effect.gen(function* () {
      const alice = yield* register("page-alice")
      const all = Array.from({ length: 25 }, (_, index) => `Person ${String(index).padStart(2, "0")}`)
      yield* importFile(alice, all.map((name, index) => vcard(`FN:${name}`, `EMAIL:p${index}@example.org`)).join(""))
      const seen: Array<string> = []
      let from: string | undefined
      do {
        const { body } = yield* contactsOf(alice)("GET", `?limit=10${from === undefined ? "" : `&from=${from}`}`)
        seen.push(...(body.contacts as ReadonlyArray<Listed>).map(({ name }) => name))
        assert.strictEqual(body.total, 25)
        from = body.next_batch as string | undefined
      } while (from !== undefined)
      assert.deepStrictEqual(seen, all)
      assert.deepStrictEqual(yield* names(alice, "?search=p7@EXAMPLE"), ["Person 07"])
      assert.deepStrictEqual(yield* names(alice, "?search=%25"), [])
      assert.strictEqual((yield* contactsOf(alice)("GET", "?from=nonsense")).body.errcode, "M_INVALID_PARAM")
      yield* contactsOf(alice)("DELETE", "")
      assert.deepStrictEqual(yield* names(alice), [])
    })
  )

  it.effect("a malformed, large or truncated file changes nothing, and the error names the fault", () =>
    Effect.gen(function* () {
      const alice = yield* register("bad-alice")
      const good = vcard("FN:Good")
      const nested = `[["vcard",[["fn",{},"text",${"[".repeat(100)}${"]".repeat(100)}]]]]`
      const cases: ReadonlyArray<readonly [string, string, string]> = [
        [`${good}${vcard("FN:x", "NOTE;A=B")}`, "M_INVALID_PARAM", "Card 2"],
        [`${good}BEGIN:VCARD\r\nVERSION:4.0\r\nFN:cut`, "M_INVALID_PARAM", "not whole"],
        [`${good}garbage\r\n`, "M_INVALID_PARAM", "BEGIN:VCARD"],
        [`${good}BEGIN:VCARD\r\nFN:a\r\n${good}`, "M_INVALID_PARAM", "no END"],
        [`${good}${vcard("FN:x", "UID:1", "UID:2")}`, "M_INVALID_PARAM", "UID: expected at most one"],
        [`${good}${vcard("NOTE:nameless")}`, "M_INVALID_PARAM", "FN: missing"],
        [`${good}${vcard("FN:nul\0")}`, "M_INVALID_PARAM", "FN"],
        [`${good}${vcard("FN:end", "END:VC", " ARD", "BEGIN:VC", " ARD")}`, "M_INVALID_PARAM", "Card 2"],
        [`${good}${vcard("FN:x", `PHOTO:data:image/png;base64,${"A".repeat(300_000)}`)}`, "M_TOO_LARGE", "PHOTO"],
        [`${good}${vcard(`FN:x${"\r\n y".repeat(300_000)}`)}`, "M_TOO_LARGE", "Card 2"],
        [
          `${good}${vcard("FN:x", ...Array.from({ length: 600 }, (_, at) => `NOTE:${at}`))}`,
          "M_TOO_LARGE",
          "500 properties"
        ],
        ["x".repeat(600_000), "M_TOO_LARGE", "larger"],
        [`[["vcard",[["fn",{},"text","cut"]]],`, "M_INVALID_PARAM", "breaks off"],
        [`[["vcard",[["fn",{},"text",oops]]]]`, "M_NOT_JSON", "Card 1"],
        [nested, "M_INVALID_PARAM", "levels"],
        ['["vcard",[["fn",{},"text","x"]],[["vcard",[],[]]]]', "M_INVALID_PARAM", "inside of a card"],
        ['["vcard",[["fn",{"x":"a\\r\\nEND:VCARD"},"text","x"]]]', "M_INVALID_PARAM", "parameter"],
        ['["vcard",[["fn\\r\\nX",{},"text","x"]]]', "M_INVALID_PARAM", "name of a property"],
        ['["vcard",[["fn",{},"text","\\ud800"]]]', "M_INVALID_PARAM", "FN"]
      ]
      for (const [body, errcode, text] of cases) {
        const answer = yield* importFile(alice, body, "")
        assert.strictEqual(answer.body.errcode, errcode, `${body.slice(0, 100)} ${answer.text}`)
        assert.include(answer.body.error, text, body.slice(0, 100))
      }
      const bytes = Buffer.from(`${good}${vcard("FN:X")}`)
      bytes[bytes.lastIndexOf("X")] = 0xff
      assert.strictEqual((yield* importFile(alice, bytes)).body.errcode, "M_NOT_JSON")
      assert.strictEqual((yield* importFile(alice, good, "text/vcard; charset=latin1")).body.errcode, "M_INVALID_PARAM")
      assert.deepStrictEqual(yield* names(alice), [])
      assert.deepStrictEqual(counts(yield* importFile(alice, "")), [0, 0, 0, 0])
      assert.strictEqual((yield* askToday("POST", `${path}/import`, { body: good })).status, 401)
    })
  )

  it.effect("concurrent imports of a file add it once, and a full address book accepts no more contacts", () =>
    Effect.gen(function* () {
      const alice = yield* register("full-alice")
      const file = Array.from({ length: 50 }, (_, at) => vcard(`FN:Name ${at}`, `EMAIL:n${at}@example.org`)).join("")
      const answers = yield* Effect.all(
        [1, 2, 3].map(() => importFile(alice, file)),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        answers.map(({ body }) => body.total),
        [50, 50, 50]
      )
      assert.strictEqual(
        answers.reduce((sum, { body }) => sum + Number(body.created), 0),
        50
      )
      const sql = yield* SqlClient.SqlClient
      yield* sql`
        INSERT INTO contacts (user_id, contact_id, uid, name, sort_name, search, card, size, updated_at)
        SELECT ${alice.id}, 'filled' || n, 'filled' || n, 'x', 'x', '', '["vcard",[]]', 12, 0
        FROM generate_series(1, 19950) AS n`
      const full = yield* importFile(alice, vcard("FN:One more"))
      assert.deepStrictEqual([full.status, full.body.errcode], [403, "M_USER_LIMIT_EXCEEDED"])
      const added = yield* contactsOf(alice)("POST", "", {
        json: {
          card: [
            "vcard",
            [
              ["version", {}, "text", "4.0"],
              ["fn", {}, "text", "One more"]
            ]
          ]
        }
      })
      assert.deepStrictEqual([added.status, added.body.errcode], [403, "M_USER_LIMIT_EXCEEDED"])
      assert.deepStrictEqual(yield* names(alice, "?search=one%20more"), [])
      // A card can still be merged with an existing contact.
      assert.strictEqual(
        (yield* importFile(alice, vcard("FN:Name 1", "EMAIL:n1@example.org", "NOTE:x"))).body.merged,
        1
      )
    })
  )

  it.effect("the export of a nearly full address book can be imported", () =>
    Effect.gen(function* () {
      const [alice, bob] = [yield* register("large-alice"), yield* register("large-bob")]
      const photo = `PHOTO:data:image/png;base64,${"A".repeat(250_000)}`
      const file = Array.from({ length: 130 }, (_, at) => vcard(`UID:large-${at}`, `FN:Large ${at}`, photo)).join("")
      assert.deepStrictEqual(counts(yield* importFile(alice, file)), [130, 0, 0, 130])
      const full = yield* importFile(alice, file.replaceAll("large-", "more-"))
      assert.deepStrictEqual([full.status, full.body.errcode], [403, "M_USER_LIMIT_EXCEEDED"])
      const exported = yield* contactsOf(alice)("GET", "/export?format=vcard")
      assert.isAbove(exported.text.length, file.length)
      assert.deepStrictEqual(counts(yield* importFile(bob, exported.text)), [130, 0, 0, 130])
    })
  )

  it.effect("a file of 100 MB is refused before it has arrived, with and without a declared length", () =>
    Effect.gen(function* () {
      const alice = yield* register("huge-alice")
      const { url } = yield* Gateway
      const send = (headers: Record<string, string>) =>
        Effect.callback<{ readonly status: number; readonly sent: number }>((resume) => {
          const chunk = Buffer.from(vcard(`FN:${"x".repeat(60_000)}`))
          let sent = 0
          const outgoing = request(`${url}/_matrix/client${path}/import`, {
            method: "POST",
            headers: { authorization: `Bearer ${alice.token}`, "content-type": "text/vcard", ...headers }
          })
          outgoing.on("error", () => {})
          outgoing.on("response", (response) => {
            resume(Effect.succeed({ status: response.statusCode ?? 0, sent }))
            outgoing.destroy()
          })
          const write = () => {
            while (!outgoing.destroyed && sent < 100_000_000) {
              sent += chunk.length
              if (!outgoing.write(chunk)) return outgoing.once("drain", write)
            }
            return outgoing.end()
          }
          write()
        })
      const announced = yield* send({ "content-length": "100000000" })
      assert.strictEqual(announced.status, 413)
      assert.isBelow(announced.sent, 100_000_000)
      const endless = yield* send({ "transfer-encoding": "chunked" })
      assert.strictEqual(endless.status, 413)
      assert.isBelow(endless.sent, 100_000_000)
      assert.deepStrictEqual(yield* names(alice), [])
    })
  )

  it.effect("the user directory finds contacts first, even without a shared room", () =>
    Effect.gen(function* () {
      const alice = yield* register("dir-alice")
      const bob = yield* register("dir-bob")
      const carol = yield* register("dir-carol")
      yield* createRoom(carol)
      yield* importFile(
        alice,
        vcard("FN:Zed dir-contact", `IMPP:matrix:u/${bob.id.slice(1)}`) + vcard("FN:Nobody dir-", "EMAIL:n@example.org")
      )
      const search = (user: TestUser, search_term: string) =>
        Effect.map(
          askToday("POST", "/v3/user_directory/search", { token: user.token, json: { search_term } }),
          ({ body }) => (body.results as ReadonlyArray<{ readonly user_id: string }>).map(({ user_id }) => user_id)
        )
      assert.deepStrictEqual(yield* search(alice, "dir-"), [bob.id, carol.id])
      assert.deepStrictEqual(yield* search(alice, "zed"), [bob.id])
      assert.deepStrictEqual(yield* search(carol, "zed"), [])
      const [contact] = yield* listOf(alice, "?search=zed")
      assert.deepStrictEqual(contact?.user_ids, [bob.id])
      yield* contactsOf(alice)("DELETE", `/${contact?.contact_id}`)
      assert.deepStrictEqual(yield* search(alice, "zed"), [])
    })
  )

  it.effect("contacts are in the data export of a user, and are erased with the account", () =>
    Effect.gen(function* () {
      const alice = yield* register("gone-alice")
      yield* importFile(alice, vcard("FN:Kept"))
      const exported = yield* ask("GET", "//_greenroom/client/v1/export", { token: alice.token })
      const lines = exported.text
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line))
      assert.deepStrictEqual(
        lines
          .filter(({ type }) => type === "contact")
          .map(({ card }) => card[1].find(([name]: [string]) => name === "fn")[3]),
        ["Kept"]
      )
      const stored = ContactStore.use((store) => store.list(alice.id as never, undefined, "", { limit: 5, bytes: 1e6 }))
      assert.strictEqual((yield* stored).length, 1)
      const left = yield* askToday("POST", "/v3/account/deactivate", {
        token: alice.token,
        json: {
          auth: passwordOf("gone-alice"),
          erase: true
        }
      })
      assert.strictEqual(left.status, 200, left.text)
      assert.deepStrictEqual(yield* stored, [])
    })
  )
})
