/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_decode.c - is there a message on which the decoder's two layers, or an independent judge, disagree?
 *
 * With ids read and without them.  An input is a message: lines, each decoded from a copy of exactly its size, so that a byte read too far is
 * seen.  Every line comes twice, and the whole message twice: the fast path then works with what it learnt
 * from this very input.
 *
 *      fuzz_decode NEW_CORPUS tests/fuzz/corpus/decode */
#include "../support/decode_judge.h"
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const uint8_t *data, size_t size, bool reads_ids)
{
        struct decoder *decoder = decoder_new(2);
        const char *const end = (const char *)data + size;

        if (decoder == NULL)
                abort();
        if (reads_ids)
                decoder_read_ids(decoder);
        for (int round = 0; round < 2; round++) {
                const char *line = (const char *)data;
                for (;;) {
                        const char *line_end = line < end ? memchr(line, '\n', (size_t)(end - line)) : NULL;
                        const size_t len = (size_t)((line_end != NULL ? line_end : end) - line);
                        for (int again = 0; again < 2; again++) {
                                const char *who = disagreement(decoder, line, len);
                                if (who != NULL) {
                                        fprintf(stderr, "%s disagree on: %.*s\n", who, (int)len, line);
                                        abort();
                                }
                        }
                        if (line_end == NULL)
                                break;
                        line = line_end + 1;
                }
        }
        decoder_free(decoder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        decode(data, size, false);
        decode(data, size, true);
        return 0;
}
