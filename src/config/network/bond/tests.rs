use super::*;

fn read(text: &str) -> (String, Vec<String>) {
    let mut left_out = Vec::new();
    let options = options(text, &["a".to_owned(), "b".to_owned()], &mut left_out);
    (options.to_string(), left_out)
}

/// Every option of modinfo bonding that netlink takes, by name and by number.
#[test]
fn understood() {
    for (text, expected) in [
        ("", "mode=balance-rr,miimon=100"),
        ("mode=6", "mode=balance-alb,miimon=100"),
        ("miimon=0", "mode=balance-rr,miimon=0"),
        ("updelay=200,downdelay=300", "mode=balance-rr,updelay=200,downdelay=300,miimon=100"),
        ("lacp_rate=1,mode=802.3ad", "mode=802.3ad,lacp_rate=fast,miimon=100"),
        ("mode=4,lacp_rate=slow,lacp_active=off", "mode=802.3ad,lacp_rate=slow,lacp_active=off,miimon=100"),
        (
            "mode=4,ad_select=bandwidth,ad_actor_sys_prio=5",
            "mode=802.3ad,ad_select=bandwidth,ad_actor_sys_prio=5,miimon=100",
        ),
        (
            "mode=4,ad_user_port_key=1023,ad_actor_system=02:00:00:00:00:01",
            "mode=802.3ad,ad_user_port_key=1023,miimon=100,ad_actor_system=02:00:00:00:00:01",
        ),
        ("mode=4,coupled_control=on,min_links=2", "mode=802.3ad,coupled_control=on,min_links=2,miimon=100"),
        ("mode=2,xmit_hash_policy=layer3+4", "mode=balance-xor,xmit_hash_policy=layer3+4,miimon=100"),
        ("xmit_hash_policy=5", "mode=balance-rr,xmit_hash_policy=vlan+srcmac,miimon=100"),
        (
            "mode=1,primary=b,primary_reselect=failure",
            "mode=active-backup,primary_reselect=failure,miimon=100,primary=b",
        ),
        ("mode=1,num_grat_arp=3,num_unsol_na=5", "mode=active-backup,num_grat_arp=5,miimon=100"),
        ("mode=1,fail_over_mac=2,resend_igmp=0", "mode=active-backup,fail_over_mac=follow,resend_igmp=0,miimon=100"),
        (
            "packets_per_slave=0,all_slaves_active=1",
            "mode=balance-rr,packets_per_slave=0,all_slaves_active=on,miimon=100",
        ),
        ("mode=5,tlb_dynamic_lb=0,lp_interval=1", "mode=balance-tlb,tlb_dynamic_lb=off,lp_interval=1,miimon=100"),
        ("use_carrier=1,peer_notif_delay=100,miimon=50", "mode=balance-rr,peer_notif_delay=100,miimon=50"),
        (
            "mode=1,arp_interval=100,arp_ip_target=192.0.2.1,arp_all_targets=all,arp_missed_max=3",
            "mode=active-backup,arp_interval=100,arp_all_targets=all,arp_missed_max=3,arp_ip_target=192.0.2.1",
        ),
        (
            "mode=1,arp_interval=100,ns_ip6_target=2001:db8::1;[2001:db8::2]",
            "mode=active-backup,arp_interval=100,ns_ip6_target=2001:db8::1;2001:db8::2",
        ),
    ] {
        let (shown, left_out) = read(text);
        assert_eq!(shown, expected, "{text}");
        assert_eq!(left_out, [""; 0], "{text}");
        assert_eq!(read(&shown), (shown.clone(), Vec::new()), "what is shown is read the same");
    }
}

/// An option that the kernel would not take is named, and the bond comes up without it.
#[test]
fn left_out() {
    const PLAIN: &str = "mode=balance-rr,miimon=100";
    for (text, reason) in [
        ("mode=fast", "no mode of a bond"),
        ("mode=7", "no mode of a bond"),
        ("speed=9", "no such option"),
        ("speed", "no such option"),
        ("active_slave=a", "no such option"),
        ("use_carrier=0", "no such option"),
        ("lacp_rate=fast", "mode balance-rr doesn't have it"),
        ("primary=a", "mode balance-rr doesn't have it"),
        ("ad_actor_system=02:00:00:00:00:01", "mode balance-rr doesn't have it"),
        ("xmit_hash_policy=layer9", "write one of layer2, layer3+4"),
        ("xmit_hash_policy=6", "write one of"),
        ("resend_igmp=256", "from 0 to 255"),
        ("resend_igmp=", "from 0 to 255"),
        ("lp_interval=0", "from 1 to"),
        ("min_links=2147483648", "from 0 to 2147483647"),
        ("arp_interval=100", "needs arp_ip_target"),
        ("arp_ip_target=here", "“here” is not an address"),
    ] {
        let (shown, left_out) = read(text);
        assert_eq!(shown, PLAIN, "{text}");
        let [said] = left_out.as_slice() else { panic!("{text}: {left_out:?}") };
        assert!(said.contains(reason), "{text}: {said}");
    }
    let (shown, left_out) = read("mode=1,primary=c");
    assert!(shown == "mode=active-backup,miimon=100" && left_out[0].contains("none of the slaves (a, b)"));
    let (shown, left_out) = read("mode=4,arp_interval=100,arp_ip_target=192.0.2.1");
    assert!(shown.starts_with("mode=802.3ad,miimon=100") && left_out[0].contains("mode 802.3ad"), "{shown}");
    let (shown, left_out) = read("mode=1,miimon=100,arp_interval=100,arp_ip_target=192.0.2.1,arp_validate=all");
    assert_eq!((shown.as_str(), left_out.len()), ("mode=active-backup,miimon=100,arp_ip_target=192.0.2.1", 2));
    let (shown, left_out) = read("miimon=0,updelay=100");
    assert_eq!((shown.as_str(), left_out.len()), ("mode=balance-rr,miimon=0", 1));
    let many = vec!["192.0.2.1"; 17].join(";");
    assert!(read(&format!("mode=1,arp_interval=1,arp_ip_target={many}")).1[0].contains("17 targets are too many"));
}

#[test]
fn widths_are_the_kernels() {
    let mut none = Vec::new();
    let options = options("mode=4,miimon=100,lacp_rate=fast,ad_actor_sys_prio=300", &[], &mut none);
    let expected = [(3, BondNumber::U32(100)), (21, BondNumber::U8(1)), (24, BondNumber::U16(300))];
    assert_eq!((options.mode as u8, options.numbers.as_slice()), (4, &expected[..]));
}
