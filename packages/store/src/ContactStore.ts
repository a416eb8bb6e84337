/**
 * The contacts of users, with their addresses. Changes of the contacts of one user are serialised by `change`.
 *
 * Used by `Contacts`, and by `RoomFinder` for the users among them. An error of the database is a defect. Times are milliseconds
 * since 1970, sizes are bytes of the jCard.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { UserDeactivated } from "@greenroom/protocol/MatrixError"
import { Clock, Context, Effect, Layer, Option } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { containing } from "./internal/containing.ts"
import { integers, texts } from "./PgArrays.ts"
import type { FoundUser } from "./UserDirectoryStore.ts"

/** `email` and `msisdn` in canonical form, the digits of other numbers as `phone`, and a user ID as `matrix`. */
export type ContactMedium = "email" | "msisdn" | "phone" | "matrix"

export interface ContactAddress {
  readonly medium: ContactMedium
  readonly address: string
  /** The user of the address, if one is known. */
  readonly matrixId: UserId | undefined
}

export interface Contact {
  readonly contactId: string
  readonly uid: string
  readonly name: string
  /** A jCard (RFC 7095), as JSON text. */
  readonly card: string
  readonly addresses: ReadonlyArray<ContactAddress>
}

export interface StoredContact extends Contact {
  readonly version: number
  readonly updatedAt: number
}

export interface NewContact extends Contact {
  /** The sort key of the list. */
  readonly sortName: string
  /** The searched text, in lower case. */
  readonly search: string
}

export interface BookSize {
  readonly contacts: number
  readonly bytes: number
}

/** The position of a contact in the list. */
export interface ContactPosition {
  readonly sortName: string
  readonly contactId: string
}

interface Row {
  readonly contact_id: string
  readonly uid: string
  readonly name: string
  readonly sort_name: string
  readonly card: string
  readonly version: bigint
  readonly updated_at: bigint
  readonly addresses: string | null
}

const toContact = (row: Row): StoredContact & ContactPosition => ({
  contactId: row.contact_id,
  uid: row.uid,
  name: row.name,
  sortName: row.sort_name,
  card: row.card,
  version: Number(row.version),
  updatedAt: Number(row.updated_at),
  addresses: (JSON.parse(row.addresses ?? "[]") as ReadonlyArray<[ContactMedium, string, UserId | null]>).map(
    ([medium, address, matrixId]) => ({ medium, address, matrixId: matrixId ?? undefined })
  )
})

/** How many rows one statement writes. */
const batch = 1_000

const batches = <A>(all: ReadonlyArray<A>): ReadonlyArray<ReadonlyArray<A>> =>
  Array.from({ length: Math.ceil(all.length / batch) }, (_, index) => all.slice(index * batch, (index + 1) * batch))

type Change<A> = Effect.Effect<A, SqlError.SqlError>

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  const columns = sql.literal(`c.contact_id, c.uid, c.name, c.sort_name, c.card, c.version, c.updated_at,
    (SELECT json_agg(json_build_array(a.medium, a.address, a.matrix_id) ORDER BY a.medium, a.address)::text
     FROM contact_addresses a WHERE a.user_id = c.user_id AND a.contact_id = c.contact_id) AS addresses`)

  const change: ContactStore["Service"]["change"] = (userId, body) =>
    sql
      .withTransaction(
        Effect.gen(function* () {
          const rows = yield* sql<{ contacts: number; bytes: bigint }>`
            INSERT INTO contact_books (user_id)
            SELECT user_id FROM users WHERE user_id = ${userId} AND deactivated_at IS NULL FOR SHARE
            ON CONFLICT (user_id) DO UPDATE SET user_id = excluded.user_id RETURNING contacts, bytes`
          if (rows[0] === undefined) return yield* new UserDeactivated({ error: `${userId} was deactivated` })
          return yield* body
        })
      )
      .pipe(Effect.catchTag("SqlError", Effect.die)) as never

  const sizeOf = (userId: UserId) =>
    Effect.map(
      sql<{ contacts: number; bytes: bigint }>`
        UPDATE contact_books SET (contacts, bytes) =
          (SELECT count(*), coalesce(sum(size), 0) FROM contacts WHERE user_id = ${userId})
        WHERE user_id = ${userId} RETURNING contacts, bytes`,
      ([row]): BookSize => ({ contacts: row?.contacts ?? 0, bytes: Number(row?.bytes ?? 0) })
    )

  const matching = (userId: UserId, uids: ReadonlyArray<string>, addresses: ReadonlyArray<ContactAddress>) =>
    Effect.map(
      sql<Row>`
        SELECT ${columns} FROM contacts c WHERE c.user_id = ${userId} AND c.contact_id IN (
          SELECT contact_id FROM contacts WHERE user_id = ${userId} AND uid = ANY(${texts(uids)})
          UNION
          SELECT contact_id FROM contact_addresses
          JOIN unnest(${texts(addresses.map(({ medium }) => medium))}::text[],
                      ${texts(addresses.map(({ address }) => address))}::text[]) AS wanted (medium, address)
            USING (medium, address)
          WHERE user_id = ${userId}
        ) ORDER BY c.updated_at, c.contact_id`,
      (rows) => rows.map(toContact)
    )

  /** Saves addresses. Existing ones keep their known user. */
  const saveAddresses = Effect.fnUntraced(function* (userId: UserId, contacts: ReadonlyArray<NewContact>) {
    const rows = contacts.flatMap(({ addresses, contactId }) => addresses.map((address) => ({ ...address, contactId })))
    const wanted = sql`unnest(
      ${texts(rows.map(({ contactId }) => contactId))}::text[], ${texts(rows.map(({ medium }) => medium))}::text[],
      ${texts(rows.map(({ address }) => address))}::text[], ${texts(rows.map(({ matrixId }) => matrixId ?? null))}::text[]
    ) AS wanted (contact_id, medium, address, matrix_id)`
    yield* sql`
      DELETE FROM contact_addresses a
      WHERE user_id = ${userId} AND contact_id = ANY(${texts(contacts.map(({ contactId }) => contactId))})
        AND NOT EXISTS (SELECT 1 FROM ${wanted} WHERE wanted.contact_id = a.contact_id
                          AND wanted.medium = a.medium AND wanted.address = a.address)`
    yield* sql`
      INSERT INTO contact_addresses (user_id, contact_id, medium, address, matrix_id)
      SELECT ${userId}, contact_id, medium, address, matrix_id FROM ${wanted} ON CONFLICT DO NOTHING`
  })

  const saveBatch = Effect.fnUntraced(function* (userId: UserId, contacts: ReadonlyArray<NewContact>) {
    const now = yield* Clock.currentTimeMillis
    yield* sql`
      INSERT INTO contacts (user_id, contact_id, uid, name, sort_name, search, card, size, updated_at)
      SELECT ${userId}, given.*, ${now} FROM unnest(
        ${texts(contacts.map(({ contactId }) => contactId))}::text[], ${texts(contacts.map(({ uid }) => uid))}::text[],
        ${texts(contacts.map(({ name }) => name))}::text[], ${texts(contacts.map(({ sortName }) => sortName))}::text[],
        ${texts(contacts.map(({ search }) => search))}::text[], ${texts(contacts.map(({ card }) => card))}::text[],
        ${integers(contacts.map(({ card }) => Buffer.byteLength(card)))}::int[]
      ) AS given
      ON CONFLICT (user_id, contact_id) DO UPDATE SET
        uid = excluded.uid, name = excluded.name, sort_name = excluded.sort_name, search = excluded.search,
        card = excluded.card, size = excluded.size, updated_at = excluded.updated_at, version = contacts.version + 1`
    yield* saveAddresses(userId, contacts)
  })

  const list = Effect.fnUntraced(function* (
    userId: UserId,
    after: ContactPosition | undefined,
    text: string,
    bounds: { readonly limit: number; readonly bytes: number }
  ) {
    const { contactId, sortName } = after ?? { sortName: "", contactId: "" }
    const rows = yield* sql<Row>`
      SELECT ${columns} FROM (
        SELECT user_id, contact_id,
               sum(size) OVER (ORDER BY sort_name, contact_id) AS total,
               row_number() OVER (ORDER BY sort_name, contact_id) AS number
        FROM contacts
        WHERE user_id = ${userId} AND (sort_name, contact_id) > (${sortName}, ${contactId})
          AND (${text} = '' OR search LIKE ${containing(text)})
        ORDER BY sort_name, contact_id LIMIT ${bounds.limit}
      ) AS page JOIN contacts c USING (user_id, contact_id)
      WHERE page.total <= ${bounds.bytes} OR page.number = 1
      ORDER BY c.sort_name, c.contact_id`
    return rows.map(toContact)
  }, Effect.orDie)

  const nextToLookUp = Effect.fnUntraced(function* (userId: UserId, before: number, limit: number) {
    const rows = yield* sql<{ medium: "email" | "msisdn"; address: string }>`
      SELECT medium, address, min(coalesce(looked_up_at, 0)) AS looked_up_at FROM contact_addresses
      WHERE user_id = ${userId} AND medium IN ('email', 'msisdn') AND coalesce(looked_up_at, 0) < ${before}
      GROUP BY medium, address ORDER BY 3, 1, 2 LIMIT ${limit}`
    return rows
  }, Effect.orDie)

  const lookedUp = Effect.fnUntraced(function* (userId: UserId, found: ReadonlyArray<ContactAddress>, at: number) {
    yield* sql`
      UPDATE contact_addresses a SET matrix_id = found.matrix_id, looked_up_at = ${at}
      FROM unnest(${texts(found.map(({ medium }) => medium))}::text[], ${texts(found.map(({ address }) => address))}::text[],
                  ${texts(found.map(({ matrixId }) => matrixId ?? null))}::text[]) AS found (medium, address, matrix_id)
      WHERE a.user_id = ${userId} AND a.medium = found.medium AND a.address = found.address`
  }, Effect.orDie)

  const users = Effect.fnUntraced(function* (userId: UserId, text: string, limit: number) {
    const pattern = containing(text)
    const rows = yield* sql<{
      matrix_id: UserId
      name: string
      displayname: string | null
      avatar_url: string | null
    }>`
      SELECT found.matrix_id, found.name, name.value AS displayname, avatar.value AS avatar_url FROM (
        SELECT DISTINCT ON (a.matrix_id) a.matrix_id, c.name, c.sort_name
        FROM contact_addresses a JOIN contacts c USING (user_id, contact_id)
        WHERE a.user_id = ${userId} AND a.matrix_id IS NOT NULL AND a.matrix_id <> ${userId}
          AND (c.search LIKE ${pattern} OR lower(a.matrix_id) LIKE ${pattern})
        ORDER BY a.matrix_id, c.sort_name
      ) AS found
      LEFT JOIN profile_fields name
        ON name.user_id = found.matrix_id AND name.field = 'displayname' AND name.visibility = 'public'
      LEFT JOIN profile_fields avatar
        ON avatar.user_id = found.matrix_id AND avatar.field = 'avatar_url' AND avatar.visibility = 'public'
      LEFT JOIN users ON users.user_id = found.matrix_id
      WHERE users.deactivated_at IS NULL
      ORDER BY found.sort_name, found.matrix_id LIMIT ${limit}`
    const textOf = (value: string | null): string | undefined => {
      const parsed: unknown = value === null ? undefined : JSON.parse(value)
      return typeof parsed === "string" ? parsed : undefined
    }
    return rows.map(
      (row): FoundUser => ({
        userId: row.matrix_id,
        displayname: textOf(row.displayname) ?? row.name,
        avatarUrl: textOf(row.avatar_url)
      })
    )
  }, Effect.orDie)

  return ContactStore.of({
    change,
    sizeOf,
    matching,
    save: (userId, contacts) =>
      Effect.forEach(batches(contacts), (entry) => saveBatch(userId, entry), { discard: true }),
    remove: (userId, contactIds) =>
      Effect.map(
        sql`DELETE FROM contacts WHERE user_id = ${userId} AND contact_id = ANY(${texts(contactIds)}) RETURNING 1`,
        (rows) => rows.length
      ),
    removeAll: (userId) => sql`DELETE FROM contacts WHERE user_id = ${userId}`,
    find: (userId, contactId) =>
      sql<Row>`SELECT ${columns} FROM contacts c WHERE user_id = ${userId} AND contact_id = ${contactId}`.pipe(
        Effect.map((rows) => Option.map(Option.fromNullishOr(rows[0]), toContact)),
        Effect.orDie
      ),
    list,
    book: (userId) =>
      sql<{
        contacts: number
        bytes: bigint
      }>`SELECT contacts, bytes FROM contact_books WHERE user_id = ${userId}`.pipe(
        Effect.map(([row]) => ({ contacts: row?.contacts ?? 0, bytes: Number(row?.bytes ?? 0) })),
        Effect.orDie
      ),
    nextToLookUp,
    lookedUp,
    users
  })
})

export class ContactStore extends Context.Service<
  ContactStore,
  {
    /** Runs a change of the user's contacts in a transaction, one at a time. Errors: M_USER_DEACTIVATED. */
    readonly change: <A, E, R>(
      userId: UserId,
      body: Effect.Effect<A, E | SqlError.SqlError, R>
    ) => Effect.Effect<A, Exclude<E, SqlError.SqlError> | UserDeactivated, R>
    /** Within `change`: counts the contacts again. */
    readonly sizeOf: (userId: UserId) => Change<BookSize>
    /** Within `change`: the contacts with one of the UIDs or addresses, the oldest first. */
    readonly matching: (
      userId: UserId,
      uids: ReadonlyArray<string>,
      addresses: ReadonlyArray<ContactAddress>
    ) => Change<ReadonlyArray<StoredContact>>
    /** Within `change`: writes new and existing contacts. */
    readonly save: (userId: UserId, contacts: ReadonlyArray<NewContact>) => Change<void>
    /** Within `change`: removes contacts, and returns how many existed. */
    readonly remove: (userId: UserId, contactIds: ReadonlyArray<string>) => Change<number>
    /** Within `change`. */
    readonly removeAll: (userId: UserId) => Change<unknown>
    readonly find: (userId: UserId, contactId: string) => Effect.Effect<Option.Option<StoredContact>>
    /** A page by name: at most so many contacts and bytes, but at least one contact. */
    readonly list: (
      userId: UserId,
      after: ContactPosition | undefined,
      text: string,
      bounds: { readonly limit: number; readonly bytes: number }
    ) => Effect.Effect<ReadonlyArray<StoredContact & ContactPosition>>
    readonly book: (userId: UserId) => Effect.Effect<BookSize>
    /** Addresses that were not looked up since a time, the least recent first. */
    readonly nextToLookUp: (
      userId: UserId,
      before: number,
      limit: number
    ) => Effect.Effect<ReadonlyArray<{ readonly medium: "email" | "msisdn"; readonly address: string }>>
    /** Stores an answer of an identity server: the addresses that were looked up, each with its user if it has one. */
    readonly lookedUp: (userId: UserId, found: ReadonlyArray<ContactAddress>, at: number) => Effect.Effect<void>
    /** The Matrix users among the contacts that have the text in their card or user ID, by name. */
    readonly users: (userId: UserId, text: string, limit: number) => Effect.Effect<ReadonlyArray<FoundUser>>
  }
>()("greenroom/store/ContactStore") {
  static readonly layer = Layer.effect(ContactStore, make)
}
