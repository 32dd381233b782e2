/* SPDX-License-Identifier: MIT */
/* Guards the conversation in service/link/netlink.c: only the answer to the request that waits is taken;
 * what is cut, lost or strange is an error or passed over, and never waited for without end. */

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "fake-kernel.h"
#include "link/netlink.h"
#include "unit.h"

static Netlink *nl;

static int begin(void **state) {
        fake_reset();
        return netlink_open(&nl);
}

static int end(void **state) {
        netlink_close(nl);
        return 0;
}

static int change(void) {
        return netlink_change_link(nl, &(LinkChange){.ifindex = 5, .up = true});
}

static struct nlmsghdr *put_link(int ifindex, const char *name) {
        struct nlmsghdr *m = fake_message(RTM_NEWLINK, NLM_F_MULTI);
        struct ifinfomsg *info = mnl_nlmsg_put_extra_header(m, sizeof(*info));

        info->ifi_index = ifindex;
        mnl_attr_put_strz(m, IFLA_IFNAME, name);
        return m;
}

static unsigned n_links;
static int last_ifindex;

static void count_link(const Link *link, bool deleted, void *userdata) {
        n_links++;
        last_ifindex = link->ifindex;
}

static int dump(void) {
        n_links = 0;
        return netlink_dump_links(nl, count_link, NULL);
}

static void acknowledged(void **state) {
        fake_ack(0, NULL);
        assert_int_equal(change(), 0);
        assert_string_equal(netlink_detail(nl), "");
        assert_int_equal(fake_sent_count(), 1);
}

static void refused(void **state) {
        fake_ack(-EPERM, NULL);
        assert_int_equal(change(), -EPERM);
        assert_string_equal(netlink_detail(nl), "");
}

static void extended_acks(void **state) {
        char text[400];

        fake_ack(-EINVAL, "Device is busy");
        assert_int_equal(change(), -EINVAL);
        assert_string_equal(netlink_detail(nl), "Device is busy");
        /* the next answer forgets it */
        fake_ack(-EINVAL, NULL);
        assert_int_equal(change(), -EINVAL);
        assert_string_equal(netlink_detail(nl), "");
        /* a warning with a success is no refusal's text */
        fake_ack(0, "Deprecated");
        assert_int_equal(change(), 0);
        assert_string_equal(netlink_detail(nl), "");
        memset(text, 'x', sizeof(text) - 1);
        text[sizeof(text) - 1] = '\0';
        fake_ack(-EINVAL, text);
        assert_int_equal(change(), -EINVAL);
        assert_true(strlen(netlink_detail(nl)) > 100 && strlen(netlink_detail(nl)) < 399);
}

/* Without NETLINK_CAP_ACK the request comes back before the text. */
static void extended_ack_behind_the_request(void **state) {
        struct nlmsghdr *m;
        struct nlmsgerr *e;

        fake_datagram();
        m = fake_message(NLMSG_ERROR, NLM_F_ACK_TLVS);
        e = mnl_nlmsg_put_extra_header(m, sizeof(*e) + 16);
        e->error = -EBUSY;
        e->msg.nlmsg_len = sizeof(struct nlmsghdr) + 16;
        mnl_attr_put_strz(m, NLMSGERR_ATTR_MSG, "in use");
        assert_int_equal(change(), -EBUSY);
        assert_string_equal(netlink_detail(nl), "in use");
}

static void strange_extended_acks(void **state) {
        static const uint32_t lengths[] = {0, 1, 15, 16, 17, 100, 65536, 0x7fffffff};

        for (size_t i = 0; i < ELEMENTS(lengths); i++) {
                struct nlmsghdr *m;
                struct nlmsgerr *e;

                fake_reset();
                fake_datagram();
                m = fake_message(NLMSG_ERROR, NLM_F_ACK_TLVS);
                e = mnl_nlmsg_put_extra_header(m, sizeof(*e));
                e->error = -EBUSY;
                e->msg.nlmsg_len = lengths[i];
                mnl_attr_put(m, NLMSGERR_ATTR_MSG, 4, "text"); /* not terminated */
                assert_int_equal(change(), -EBUSY);
        }
        fake_reset();
        fake_datagram();
        fake_message(NLMSG_ERROR, NLM_F_CAPPED); /* no error inside */
        assert_int_equal(change(), -EBADMSG);
}

static void send_fails(void **state) {
        static const int errors[] = {-EPERM, -ENOBUFS, -ENOMEM, -EMSGSIZE};

        for (size_t i = 0; i < ELEMENTS(errors); i++) {
                fake_refuse_send(errors[i]);
                assert_int_equal(change(), errors[i]);
                assert_int_equal(dump(), errors[i]);
        }
        assert_int_equal(fake_sent_count(), 0);
}

static void receive_fails(void **state) {
        fake_receive_error(-ENOBUFS);
        assert_int_equal(change(), -ENOBUFS);
        fake_receive_error(-ENOMEM);
        assert_int_equal(change(), -ENOMEM);
        fake_receive_error(-ENOBUFS);
        assert_int_equal(dump(), -ENOBUFS);
}

static void interrupted(void **state) {
        for (int i = 0; i < 5; i++)
                fake_receive_error(-EINTR);
        fake_ack(0, NULL);
        assert_int_equal(change(), 0);
        assert_int_equal(fake_sent_count(), 1);
}

static void no_answer(void **state) {
        assert_int_equal(change(), -ETIMEDOUT);
        assert_int_equal(dump(), -ETIMEDOUT);
}

/* An answer to an earlier request that was given up comes late: it is not this one's. */
static void wrong_sequence(void **state) {
        fake_datagram();
        fake_message(NLMSG_ERROR, NLM_F_CAPPED)->nlmsg_seq = 4711;
        ((struct nlmsgerr *)mnl_nlmsg_put_extra_header(fake_message(NLMSG_ERROR, NLM_F_CAPPED),
                                                       sizeof(struct nlmsgerr)))
                ->error = -EBUSY;
        assert_int_equal(change(), -EBUSY);

        fake_ack(-EPERM, NULL);
        fake_ack(0, NULL);
        assert_int_equal(change(), -EPERM); /* the second answer stays in the queue … */
        fake_reset();
        fake_datagram();
        fake_message(NLMSG_ERROR, NLM_F_CAPPED)->nlmsg_seq = 1;
        assert_int_equal(change(), -ETIMEDOUT);
}

static void wrong_port(void **state) {
        fake_datagram();
        fake_message(NLMSG_ERROR, NLM_F_CAPPED)->nlmsg_pid = 12345;
        fake_ack(-EEXIST, NULL);
        assert_int_equal(change(), -EEXIST);
}

/* A look-up whose answer is preceded by somebody else's. */
static void a_foreign_answer_first(void **state) {
        Link link;

        fake_datagram();
        put_link(4, "tap4")->nlmsg_seq = 4711;
        put_link(5, "tap5")->nlmsg_pid = 12345;
        put_link(6, "tap6");
        assert_int_equal(netlink_get_link(nl, 6, NULL, &link), 0);
        assert_int_equal(link.ifindex, 6);
        assert_string_equal(link.name, "tap6");
}

static void cut(void **state) {
        for (size_t size = 0; size < sizeof(struct nlmsghdr) + sizeof(struct nlmsgerr); size++) {
                fake_reset();
                fake_ack(0, NULL);
                fake_cut(size);
                assert_true(change() < 0); /* never taken for an acknowledgement */
        }
}

static void cut_dump(void **state) {
        fake_datagram();
        put_link(1, "lo");
        put_link(2, "tap0");
        fake_cut(60);
        assert_true(dump() < 0);
        assert_true(n_links <= 1);
        /* a datagram that was longer than the buffer */
        fake_reset();
        fake_datagram();
        put_link(1, "lo");
        fake_oversize();
        assert_int_equal(dump(), -EMSGSIZE);
        assert_int_equal(n_links, 0);
}

static void lengths_that_lie(void **state) {
        static const uint32_t lengths[] = {0,          1,          15,         17,        1000,
                                           0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff};

        for (size_t i = 0; i < ELEMENTS(lengths); i++) {
                struct nlmsghdr m = {.nlmsg_len = lengths[i], .nlmsg_type = NLMSG_DONE};

                fake_reset();
                fake_bytes(&m, sizeof(m));
                assert_true(change() < 0);
        }
}

static void a_dump(void **state) {
        fake_datagram();
        put_link(1, "lo");
        put_link(2, "tap0");
        fake_datagram();
        put_link(3, "tap1");
        fake_done(0, 0);
        assert_int_equal(dump(), 0);
        assert_int_equal(n_links, 3);
        assert_int_equal(last_ifindex, 3);
        assert_int_equal(fake_sent(0)->nlmsg_flags & NLM_F_DUMP, NLM_F_DUMP);
}

static void an_empty_dump(void **state) {
        fake_done(0, 0);
        assert_int_equal(dump(), 0);
        assert_int_equal(n_links, 0);
}

static void a_refused_dump(void **state) {
        fake_datagram();
        put_link(1, "lo");
        fake_ack(-EPERM, "no");
        assert_int_equal(dump(), -EPERM);
        assert_string_equal(netlink_detail(nl), "no");
}

/* Something changed meanwhile: taken again, under a sequence number of its own, eight times at most. */
static void interrupted_dumps(void **state) {
        fake_datagram();
        put_link(1, "lo")->nlmsg_flags |= NLM_F_DUMP_INTR;
        fake_done(0, 0);
        fake_datagram();
        put_link(1, "lo");
        put_link(2, "tap0");
        fake_done(0, 0);
        assert_int_equal(dump(), 0);
        assert_int_equal(last_ifindex, 2);
        assert_int_equal(fake_sent_count(), 2);
        assert_true(fake_sent(0)->nlmsg_seq != fake_sent(1)->nlmsg_seq);
        assert_int_equal(fake_script_left(), 0);

        fake_reset();
        for (int i = 0; i < 20; i++) {
                fake_datagram();
                put_link(1, "lo")->nlmsg_flags |= NLM_F_DUMP_INTR;
                fake_done(0, 0);
        }
        (void)dump();
        assert_int_equal(fake_sent_count(), 8);
}

/* The end of a dump says, too, whether it is whole, and whether it failed (net/netlink/af_netlink.c). */
static void the_end_of_a_dump(void **state) {
        fake_datagram();
        put_link(1, "lo");
        fake_done(0, NLM_F_DUMP_INTR);
        fake_datagram();
        put_link(1, "lo");
        put_link(2, "tap0");
        fake_done(0, 0);
        assert_int_equal(dump(), 0);
        assert_int_equal(last_ifindex, 2);
        assert_int_equal(fake_sent_count(), 2);

        fake_reset();
        fake_datagram();
        put_link(1, "lo");
        fake_done(-EMSGSIZE, 0);
        assert_int_equal(dump(), -EMSGSIZE);
}

static void sequences_differ(void **state) {
        for (int i = 0; i < 5; i++)
                fake_ack(0, NULL);
        for (int i = 0; i < 5; i++)
                assert_int_equal(change(), 0);
        for (unsigned i = 1; i < 5; i++)
                assert_true(fake_sent(i)->nlmsg_seq != fake_sent(i - 1)->nlmsg_seq);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, begin, end)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(acknowledged),
                TEST(refused),
                TEST(extended_acks),
                TEST(extended_ack_behind_the_request),
                TEST(strange_extended_acks),
                TEST(send_fails),
                TEST(receive_fails),
                TEST(interrupted),
                TEST(no_answer),
                TEST(wrong_sequence),
                TEST(wrong_port),
                TEST(a_foreign_answer_first),
                TEST(cut),
                TEST(cut_dump),
                TEST(lengths_that_lie),
                TEST(a_dump),
                TEST(an_empty_dump),
                TEST(a_refused_dump),
                TEST(interrupted_dumps),
                TEST(the_end_of_a_dump),
                TEST(sequences_differ),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
