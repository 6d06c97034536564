/* SPDX-License-Identifier: Apache-2.0 */
/* test_prejoin.c - does the start find out which right is missing, before anything is counted?
 *
 * The rights are those of the line that docs/running.md shows: all of them are enough, and without any one of them the
 * start says which. */
#include "lane_rig.h"

#pragma GCC diagnostic ignored "-Wconversion" /* Criterion's own macros */

#define WORDS_MAX 64

static struct rig *rig;

static void begin(void)
{
        rig = rig_new(RIG_CONF);
}

static void end(void)
{
        rig_free(rig);
}

TestSuite(prejoin, .init = begin, .fini = end);

/* The words of the manual's line, in @line, which they are cut out of. */
static int manual_words(char *line, size_t size, const char *words[WORDS_MAX])
{
        FILE *file = fopen(PROJECT_SOURCE_DIR "/docs/running.md", "r");
        int n = 0;

        cr_assert_not_null(file);
        while (fgets(line, (int)size, file) != NULL && strstr(line, "ACL SETUSER cloutd ") == NULL)
                ;
        cr_assert_eq(fclose(file), 0);
        for (char *word = strtok(line, " \n"); word != NULL; word = strtok(NULL, " \n")) {
                cr_assert_lt(n, WORDS_MAX);
                words[n++] = word;
        }
        cr_assert_gt(n, 5, "docs/running.md shows the ACL line");
        return n;
}

static void run(int n, const char **words)
{
        redisReply *reply = redisCommandArgv(rig->redis, n, words, NULL);

        cr_assert(reply != NULL && reply->type != REDIS_REPLY_ERROR, "%s",
                  reply != NULL ? reply->str : "no answer");
        freeReplyObject(reply);
}

static void change_right(char sign, const char *right)
{
        char word[64];

        (void)snprintf(word, sizeof word, "%c%s", sign, right);
        run(4, (const char *[]){"ACL", "SETUSER", "cloutd", word});
}

Test(prejoin, the_rights_that_the_manual_names_are_enough_and_each_is_needed)
{
        char line[2048];
        const char *words[WORDS_MAX];
        const int n = manual_words(line, sizeof line, words);
        struct errmsg why = {""};

        rig->conf->redis_username = strdup("cloutd");
        rig->conf->redis_password = strdup("PASSWORD"); /* as the line has it */
        run(n, words);
        cr_assert_eq(rig_join(rig, &why), CLOUTD_OK, "%s", why.text);
        for (int i = 0; i < n; i++) {
                char named[64];

                if (*words[i] != '+')
                        continue;
                change_right('-', words[i] + 1);
                cr_expect_eq(rig_join(rig, &why), CLOUTD_EREFUSED, "without %s: %s", words[i], why.text);
                (void)snprintf(named, sizeof named, "'%s' command", words[i] + 1);
                cr_expect(strstr(why.text, "NOPERM") != NULL && strstr(why.text, named) != NULL,
                          "without %s: %s", words[i], why.text);
                change_right('+', words[i] + 1);
        }
        cr_assert_eq(rig_join(rig, &why), CLOUTD_OK, "%s", why.text);
}
