/**
 * The address book of a user, which only that user sees: contacts as vCard 4.0 and jCard, imported and exported in bulk, merged
 * where they are the same, and found as Matrix users through an identity server.
 *
 * RELATED and MEMBER properties are kept as text and never followed.
 *
 * Source: "Address book repository" of the draft, which names no endpoints; RFC 6350 and RFC 7095.
 */
import { randomBytes } from "node:crypto"
import {
  InvalidParam,
  LimitExceeded,
  type MatrixError,
  NotFound,
  UserLimitExceeded
} from "@greenroom/protocol/MatrixError"
import { type BookSize, type ContactPosition, ContactStore, type StoredContact } from "@greenroom/store/ContactStore"
import { Clock, Context, Effect, Layer, Option, Semaphore, Stream } from "effect"
import { IdentityClient } from "../identity/IdentityClient.ts"
import type { Session } from "../runtime/Session.ts"
import type { Card } from "./internal/Card.ts"
import {
  attempt,
  type CardFormat,
  type FileOfCards,
  failing,
  makeContactFiles,
  maxContacts
} from "./internal/ContactFiles.ts"
import type { MergeBy, MergePlan } from "./internal/ContactMerge.ts"

export type { CardFormat } from "./internal/ContactFiles.ts"
export type { MergeBy } from "./internal/ContactMerge.ts"

/** A file to import. */
export interface ContactFile extends FileOfCards {
  readonly mergeBy: MergeBy
}

/** How many contacts an import has added, and how many cards were merged with contacts or change nothing. */
export interface ImportOutcome {
  readonly created: number
  readonly merged: number
  readonly unchanged: number
  /** How many contacts the user has now. */
  readonly total: number
}

/** A page of contacts, by name. */
export interface ContactPage {
  readonly contacts: ReadonlyArray<StoredContact>
  readonly next: string | undefined
  readonly total: number
}

/** The most bytes of a user's contacts; `maxContacts` is their number. */
const maxBookBytes = 32 * 1024 * 1024

const defaultPage = 100
const maxPage = 500
/** The most bytes of cards in one page. */
const maxPageBytes = 2 * 1024 * 1024

/** How many imports a node handles at a time, each of which holds its cards in memory. */
const maxImports = 4

/** Addresses are not looked up again sooner, in ms. */
const lookupInterval = 24 * 3_600_000

/** How many addresses one request to an identity server has, and how many requests one lookup makes. */
const lookupBatch = 500
const maxLookupBatches = 40

const busy = new LimitExceeded({ error: "Too many imports are under way, try again later", retry_after_ms: 5_000 })
const notFound = new NotFound({ error: "There is no such contact" })
const noPage = new InvalidParam({ error: "from: expected a next_batch of this list" })

const toToken = ({ contactId, sortName }: ContactPosition): string =>
  Buffer.from(JSON.stringify([sortName, contactId])).toString("base64url")

const fromToken = (token: string): Effect.Effect<ContactPosition, InvalidParam> =>
  Effect.try({
    try: () => {
      const [sortName, contactId, ...rest] = JSON.parse(Buffer.from(token, "base64url").toString()) as Array<unknown>
      const texts = [sortName, contactId].every((part) => typeof part === "string" && !part.includes("\0"))
      if (!texts || rest.length > 0) throw noPage
      return { sortName, contactId } as ContactPosition
    },
    catch: () => noPage
  })

const newId = (): string => randomBytes(12).toString("base64url")

const make = Effect.gen(function* () {
  const store = yield* ContactStore
  const identity = yield* IdentityClient
  const imports = yield* Semaphore.make(maxImports)
  const loaded = yield* Effect.cached(Effect.promise(() => import("./internal/Loaded.ts")))
  const readCards = makeContactFiles(loaded)

  const checkBook = ({ bytes, contacts }: BookSize): Effect.Effect<void, UserLimitExceeded> => {
    if (contacts > maxContacts) {
      return Effect.fail(new UserLimitExceeded({ error: `At most ${maxContacts} contacts are kept` }))
    }
    return bytes > maxBookBytes
      ? Effect.fail(new UserLimitExceeded({ error: `Contacts of at most ${maxBookBytes} bytes are kept` }))
      : Effect.void
  }

  /** Merges cards into the contacts, all of them or none. */
  const merge = Effect.fn("Contacts.merge")(function* (
    { userId }: Session,
    cards: ReadonlyArray<Card>,
    mergeBy: MergeBy
  ) {
    const { addressesOf, planMerge } = yield* loaded
    const addresses = mergeBy === "uid" ? [] : cards.flatMap((card) => addressesOf(card))
    return yield* store.change(
      userId,
      Effect.gen(function* () {
        const uids = cards.map(({ uid }) => uid)
        const known = yield* store.matching(userId, uids, addresses)
        const plan: MergePlan = yield* failing(() => planMerge(known, cards, mergeBy, newId))
        if (plan.remove.length > 0) yield* store.remove(userId, plan.remove)
        yield* store.save(userId, plan.save)
        const size = yield* store.sizeOf(userId)
        yield* checkBook(size)
        return { ...plan, total: size.contacts }
      })
    )
  })

  const importFile: Contacts["Service"]["importFile"] = (session, file) =>
    readCards(file).pipe(
      Effect.flatMap((cards) => merge(session, cards, file.mergeBy)),
      Effect.map(({ created, merged, total, unchanged }) => ({ created, merged, unchanged, total })),
      imports.withPermitsIfAvailable(1),
      Effect.flatMap(Option.match({ onNone: () => Effect.fail(busy), onSome: Effect.succeed })),
      Effect.withSpan("Contacts.importFile")
    )

  const get = Effect.fn("Contacts.get")(function* ({ userId }: Session, contactId: string) {
    const found = yield* store.find(userId, contactId)
    return Option.isSome(found) ? found.value : yield* notFound
  })

  const add = Effect.fn("Contacts.add")(function* (session: Session, jcard: unknown, mergeBy: MergeBy) {
    const { readJcard } = yield* loaded
    const card = yield* attempt(() => readJcard(jcard))
    const { created, first = "" } = yield* merge(session, [card], mergeBy)
    return { contact: yield* get(session, first), created: created > 0 }
  })

  /** Changes a contact. Undefined if `version` is given and the contact has another one. */
  const changing = <A>(
    { userId }: Session,
    contactId: string,
    version: number | undefined,
    body: (found: StoredContact) => Effect.Effect<A, MatrixError>
  ): Effect.Effect<Option.Option<A>, MatrixError> =>
    store.change(
      userId,
      Effect.gen(function* () {
        const found = yield* store.find(userId, contactId)
        if (Option.isNone(found)) return yield* notFound
        if (version !== undefined && found.value.version !== version) return Option.none<A>()
        const result = yield* body(found.value)
        yield* Effect.flatMap(Effect.orDie(store.sizeOf(userId)), checkBook)
        return Option.some(result)
      })
    )

  const replace: Contacts["Service"]["replace"] = Effect.fn("Contacts.replace")(
    function* (session, contactId, jcard, version) {
      const { addressesOf, readJcard, toStored } = yield* loaded
      const card = yield* attempt(() => readJcard(jcard))
      const replaced = yield* changing(session, contactId, version, (found) =>
        Effect.gen(function* () {
          const known = new Map(
            found.addresses.map(({ address, matrixId, medium }) => [`${medium} ${address}`, matrixId])
          )
          const addresses = addressesOf(card).map((contactAddress) => ({
            ...contactAddress,
            matrixId: contactAddress.matrixId ?? known.get(`${contactAddress.medium} ${contactAddress.address}`)
          }))
          const contact = yield* attempt(() => toStored(contactId, card, addresses, found.uid))
          yield* Effect.orDie(store.save(session.userId, [contact]))
        })
      )
      return Option.isNone(replaced) ? Option.none() : Option.some(yield* get(session, contactId))
    }
  )

  const remove: Contacts["Service"]["remove"] = Effect.fn("Contacts.remove")(function* (session, contactId, version) {
    const removed = yield* changing(session, contactId, version, () =>
      Effect.asVoid(Effect.orDie(store.remove(session.userId, [contactId])))
    )
    return Option.isSome(removed)
  })

  const removeAll: Contacts["Service"]["removeAll"] = Effect.fn("Contacts.removeAll")(function* ({ userId }) {
    yield* store.change(userId, Effect.andThen(store.removeAll(userId), store.sizeOf(userId)))
  })

  const list: Contacts["Service"]["list"] = Effect.fn("Contacts.list")(function* ({ userId }, { from, limit, text }) {
    const after = from === undefined ? undefined : yield* fromToken(from)
    const most = Math.min(Math.max(limit ?? defaultPage, 1), maxPage)
    const found = yield* store.list(userId, after, text.trim(), { limit: most + 1, bytes: maxPageBytes })
    const page = found.slice(0, most)
    const last = page.at(-1)
    const { contacts: total } = yield* store.book(userId)
    // A page that its bytes have ended has others after it too; at worst the next one is empty.
    const more = last !== undefined && (found.length > most || page.length < most)
    return { contacts: page, next: more && (yield* isMore(userId, last, text)) ? toToken(last) : undefined, total }
  })

  const isMore = (userId: Session["userId"], last: ContactPosition, text: string) =>
    Effect.map(store.list(userId, last, text.trim(), { limit: 1, bytes: 0 }), (next) => next.length > 0)

  /** All contacts, a page in memory at a time. */
  const all = ({ userId }: Session): Stream.Stream<StoredContact> =>
    Stream.paginate(undefined as ContactPosition | undefined, (after) =>
      Effect.map(store.list(userId, after, "", { limit: maxPage, bytes: maxPageBytes }), (page) => [
        page,
        page.length === 0 ? Option.none() : Option.some(page.at(-1))
      ])
    )

  const exportFile: Contacts["Service"]["exportFile"] = (session, format) =>
    Effect.map(loaded, ({ storedAsVcard }) => {
      const cards = all(session)
      if (format === "vcard") return Stream.encodeText(Stream.map(cards, ({ card }) => storedAsVcard(card)))
      const listed = Stream.concat(
        Stream.concat(
          Stream.make("["),
          Stream.intersperse(
            Stream.map(cards, ({ card }) => card),
            ",\n"
          )
        ),
        Stream.make("]")
      )
      return Stream.encodeText(listed)
    })

  const lookUp: Contacts["Service"]["lookUp"] = Effect.fn("Contacts.lookUp")(function* ({ userId }, by) {
    const server = yield* identity.named(by.idServer)
    const now = yield* Clock.currentTimeMillis
    let [lookedUp, found] = [0, 0]
    for (let round = 0; round < maxLookupBatches; round += 1) {
      const addresses = yield* store.nextToLookUp(userId, now - lookupInterval, lookupBatch)
      if (addresses.length === 0) break
      const users = yield* identity.lookupHashed(server, addresses, by.accessToken)
      yield* store.lookedUp(
        userId,
        addresses.map((address, at) => ({ ...address, matrixId: users[at] })),
        now
      )
      lookedUp += addresses.length
      found += users.filter((user) => user !== undefined).length
    }
    return { lookedUp, found }
  })

  return Contacts.of({ importFile, exportFile, list, get, add, replace, remove, removeAll, lookUp })
})

/** The address books of users. */
export class Contacts extends Context.Service<
  Contacts,
  {
    /**
     * Adds all cards of a file, or none. Errors: M_INVALID_PARAM and M_NOT_JSON for a malformed file, M_TOO_LARGE,
     * M_USER_LIMIT_EXCEEDED, M_LIMIT_EXCEEDED while many are imported, M_UNKNOWN if it does not arrive whole.
     */
    readonly importFile: (session: Session, file: ContactFile) => Effect.Effect<ImportOutcome, MatrixError>
    /** All contacts as a file, by name. */
    readonly exportFile: (session: Session, format: CardFormat) => Effect.Effect<Stream.Stream<Uint8Array>>
    /** A page by name; of those that have the text, where it is not empty. Errors: M_INVALID_PARAM. */
    readonly list: (
      session: Session,
      page: { readonly from?: string | undefined; readonly limit?: number | undefined; readonly text: string }
    ) => Effect.Effect<ContactPage, MatrixError>
    /** Errors: M_NOT_FOUND. */
    readonly get: (session: Session, contactId: string) => Effect.Effect<StoredContact, MatrixError>
    /** Adds a card, or merges it. Errors: those of `importFile`. */
    readonly add: (
      session: Session,
      jcard: unknown,
      mergeBy: MergeBy
    ) => Effect.Effect<{ readonly contact: StoredContact; readonly created: boolean }, MatrixError>
    /**
     * Replaces the card of a contact, which keeps its UID. Undefined if the contact has another version. Errors: those of
     * `add`, M_NOT_FOUND.
     */
    readonly replace: (
      session: Session,
      contactId: string,
      jcard: unknown,
      version: number | undefined
    ) => Effect.Effect<Option.Option<StoredContact>, MatrixError>
    /** False if the contact has another version. Errors: M_NOT_FOUND. */
    readonly remove: (
      session: Session,
      contactId: string,
      version: number | undefined
    ) => Effect.Effect<boolean, MatrixError>
    /** Removes all contacts of the user. */
    readonly removeAll: (session: Session) => Effect.Effect<void, MatrixError>
    /**
     * Asks a trusted identity server, by hashes, which addresses of contacts have Matrix users. Answers are kept even if the
     * server then refuses further requests. Errors: M_SERVER_NOT_TRUSTED, M_FORBIDDEN, M_LIMIT_EXCEEDED, M_UNKNOWN.
     */
    readonly lookUp: (
      session: Session,
      by: { readonly idServer: string | undefined; readonly accessToken: string }
    ) => Effect.Effect<{ readonly lookedUp: number; readonly found: number }, MatrixError>
  }
>()("greenroom/actors/Contacts") {
  static readonly layer = Layer.effect(Contacts, make)
}
