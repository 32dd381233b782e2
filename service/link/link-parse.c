/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "common/cleanup.h"
#include "link/link-parse.h"

#define IFLA_TUN_OWNER_ 1 /* linux/if_link.h IFLA_TUN_*, not in every libc's copy */
#define IFLA_TUN_TYPE_ 3
#define IFLA_TUN_PERSIST_ 6
#define TUN_TYPE_TAP 2 /* IFF_TAP */

static void parse_tun(const struct nlattr *data, Link *link) {
        const struct nlattr *a;

        mnl_attr_for_each_nested(a, data) {
                switch (mnl_attr_get_type(a)) {
                case IFLA_TUN_OWNER_:
                        if (mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
                                link->tun_uid = mnl_attr_get_u32(a);
                        break;
                case IFLA_TUN_TYPE_:
                        if (mnl_attr_validate(a, MNL_TYPE_U8) >= 0 &&
                            mnl_attr_get_u8(a) == TUN_TYPE_TAP)
                                link->kind = LINK_TAP;
                        break;
                case IFLA_TUN_PERSIST_:
                        if (mnl_attr_validate(a, MNL_TYPE_U8) >= 0)
                                link->persistent = mnl_attr_get_u8(a);
                        break;
                }
        }
}

static void parse_port(const struct nlattr *data, Link *link) {
        const struct nlattr *a;

        mnl_attr_for_each_nested(a, data) {
                if (mnl_attr_validate(a, MNL_TYPE_U8) < 0)
                        continue;
                if (mnl_attr_get_type(a) == IFLA_BRPORT_ISOLATED)
                        link->isolated = mnl_attr_get_u8(a);
                if (mnl_attr_get_type(a) == IFLA_BRPORT_LOCKED)
                        link->locked = mnl_attr_get_u8(a);
        }
}

static void parse_linkinfo(const struct nlattr *linkinfo, Link *link) {
        const struct nlattr *a, *data = NULL, *slave_data = NULL;
        const char *kind = "", *slave_kind = "";

        mnl_attr_for_each_nested(a, linkinfo) {
                switch (mnl_attr_get_type(a)) {
                case IFLA_INFO_KIND:
                        if (mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
                                kind = mnl_attr_get_str(a);
                        break;
                case IFLA_INFO_DATA:
                        data = a;
                        break;
                case IFLA_INFO_SLAVE_KIND:
                        if (mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
                                slave_kind = mnl_attr_get_str(a);
                        break;
                case IFLA_INFO_SLAVE_DATA:
                        slave_data = a;
                        break;
                }
        }
        if (strcmp(kind, "bridge") == 0)
                link->kind = LINK_BRIDGE;
        if (strcmp(kind, "tun") == 0 && data)
                parse_tun(data, link);
        if (strcmp(slave_kind, "bridge") == 0 && slave_data)
                parse_port(slave_data, link);
}

static bool is_link(const struct nlmsghdr *m) {
        const struct ifinfomsg *info = mnl_nlmsg_get_payload(m);

        return (m->nlmsg_type == RTM_NEWLINK || m->nlmsg_type == RTM_DELLINK) &&
               mnl_nlmsg_get_payload_len(m) >= sizeof(*info) && info->ifi_family == AF_UNSPEC;
}

int link_glance(const struct nlmsghdr *m, LinkGlance *ret) {
        const struct ifinfomsg *info = mnl_nlmsg_get_payload(m);
        LinkGlance glance = {.deleted = m->nlmsg_type == RTM_DELLINK};
        const struct nlattr *a;
        unsigned found = 0;

        if (!is_link(m))
                return -EPROTO;
        glance.ifindex = info->ifi_index;
        mnl_attr_for_each(a, m, sizeof(*info)) {
                if (mnl_attr_get_type(a) == IFLA_ADDRESS && mnl_attr_get_payload_len(a) == 6) {
                        memcpy(glance.mac, mnl_attr_get_payload(a), 6);
                        found++;
                } else if (mnl_attr_get_type(a) == IFLA_CARRIER_UP_COUNT &&
                           mnl_attr_validate(a, MNL_TYPE_U32) >= 0) {
                        glance.carrier_up_count = mnl_attr_get_u32(a);
                        found++;
                }
                if (found == 2)
                        break;
        }
        *ret = glance;
        return 0;
}

int link_parse(const struct nlmsghdr *m, Link *ret) {
        const struct ifinfomsg *info = mnl_nlmsg_get_payload(m);
        Link link = {.tun_uid = UID_NONE};
        const struct nlattr *a;

        if (!is_link(m))
                return -EPROTO;
        link.ifindex = info->ifi_index;
        link.up = info->ifi_flags & IFF_UP;
        alias_parse("", &link.alias);
        mnl_attr_for_each(a, m, sizeof(*info)) {
                switch (mnl_attr_get_type(a)) {
                case IFLA_IFNAME:
                        if (mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
                                (void)snprintf(link.name, sizeof(link.name), "%s",
                                               mnl_attr_get_str(a));
                        break;
                case IFLA_IFALIAS:
                        if (mnl_attr_validate(a, MNL_TYPE_NUL_STRING) >= 0)
                                alias_parse(mnl_attr_get_str(a), &link.alias);
                        break;
                case IFLA_ADDRESS:
                        if (mnl_attr_get_payload_len(a) == 6)
                                memcpy(link.mac, mnl_attr_get_payload(a), 6);
                        break;
                case IFLA_MTU:
                        if (mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
                                link.mtu = mnl_attr_get_u32(a);
                        break;
                case IFLA_GROUP:
                        if (mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
                                link.group = mnl_attr_get_u32(a);
                        break;
                case IFLA_MASTER:
                        if (mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
                                link.master = (int)mnl_attr_get_u32(a);
                        break;
                case IFLA_CARRIER:
                        if (mnl_attr_validate(a, MNL_TYPE_U8) >= 0)
                                link.carrier = mnl_attr_get_u8(a);
                        break;
                case IFLA_CARRIER_UP_COUNT:
                        if (mnl_attr_validate(a, MNL_TYPE_U32) >= 0)
                                link.carrier_up_count = mnl_attr_get_u32(a);
                        break;
                case IFLA_LINKINFO:
                        parse_linkinfo(a, &link);
                        break;
                }
        }
        *ret = link;
        return 0;
}
