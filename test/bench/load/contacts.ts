/**
 * Imports an address book as vCards, imports the same file again, and exports it. The baseline inserts the cards in one statement,
 * without a server before PostgreSQL. All times are in ms.
 */
import { serveLoad } from "../LoadProcess.ts"
import { timed } from "../Percentiles.ts"
import { PostgresConnection } from "./PostgresConnection.ts"

export interface ContactsInput {
  readonly url: string
  /** One user a round. */
  readonly tokens: ReadonlyArray<string>
  readonly contacts: number
  /** The Unix socket of the PostgreSQL of the baseline. */
  readonly socketPath: string
}

export interface ContactRounds {
  readonly imports: ReadonlyArray<number>
  readonly repeats: ReadonlyArray<number>
  readonly exports: ReadonlyArray<number>
  readonly inserts: ReadonlyArray<number>
}

const cardOf = (index: number): string =>
  [
    "BEGIN:VCARD",
    "VERSION:4.0",
    `UID:urn:uuid:00000000-0000-4000-8000-${String(index).padStart(12, "0")}`,
    `FN:Person ${index}`,
    `N:${index};Person;;;`,
    `EMAIL;TYPE=work:person${index}@example.org`,
    `TEL;TYPE="cell,voice":+49 30 ${100_000 + index}`,
    "ADR;TYPE=home:;;Main Street 1;Berlin;;10115;Germany",
    "ORG:Example GmbH;Research",
    "NOTE:Met at the conference\\, wants to hear of news and sends greetings to everybody",
    "END:VCARD",
    ""
  ].join("\r\n")

const createTable =
  "CREATE TABLE IF NOT EXISTS baseline_contacts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, card text NOT NULL)"

const arrayLiteral = (values: ReadonlyArray<string>): string =>
  `{${values.map((value) => `"${value.replaceAll(/["\\]/g, "\\$&")}"`).join(",")}}`

serveLoad(async ({ contacts, socketPath, tokens, url }: ContactsInput): Promise<ContactRounds> => {
  const path = `${url}/_matrix/client/unstable/org.greenroom/contacts`
  const cards = Array.from({ length: contacts }, (_, index) => cardOf(index))
  const file = cards.join("")
  const connection = await PostgresConnection.open(socketPath, "greenroom", "greenroom")
  await connection.query(createTable)
  await connection.prepare("INSERT INTO baseline_contacts (card) SELECT unnest($1::text[])")

  const importFile = async (token: string, expected: "created" | "unchanged") => {
    const headers = { authorization: `Bearer ${token}`, "content-type": "text/vcard" }
    const response = await fetch(`${path}/import`, { method: "POST", headers, body: file })
    const text = await response.text()
    if (JSON.parse(text)[expected] !== contacts) throw new Error(`An import was answered with ${text}`)
  }
  const exportFile = async (token: string) => {
    const response = await fetch(`${path}/export`, { headers: { authorization: `Bearer ${token}` } })
    const text = await response.text()
    if (text.split("BEGIN:VCARD").length !== contacts + 1) throw new Error(`An export had ${text.length} characters`)
  }

  const rounds: { imports: Array<number>; repeats: Array<number>; exports: Array<number>; inserts: Array<number> } = {
    imports: [],
    repeats: [],
    exports: [],
    inserts: []
  }
  for (const token of tokens) {
    rounds.inserts.push(await timed(() => connection.run([arrayLiteral(cards)])))
    rounds.imports.push(await timed(() => importFile(token, "created")))
    rounds.repeats.push(await timed(() => importFile(token, "unchanged")))
    rounds.exports.push(await timed(() => exportFile(token)))
  }
  return rounds
})
