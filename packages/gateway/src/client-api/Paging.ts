/**
 * The pagination of a request, as an effect of its handler.
 */

import type { BadPagination } from "@greenroom/protocol/MatrixError"
import { type Pagination, type PaginationQuery, parsePagination } from "@greenroom/protocol/Pagination"
import { Effect } from "effect"

/** Errors: M_BAD_PAGINATION. */
export const pagination = (query: PaginationQuery): Effect.Effect<Pagination, BadPagination> =>
  Effect.fromResult(parsePagination(query))
