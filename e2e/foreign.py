"""Tables as other programs make them, written after what they are seen to make: kube-proxy (nftables and iptables-nft), Docker, firewalld."""

KUBE_PROXY_NFT = """
table ip kube-proxy {
  comment "rules for kube-proxy"
  set cluster-ips { type ipv4_addr; comment "Active ClusterIPs"; elements = { 10.96.0.10 } }
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict
    elements = { 10.96.0.10 . tcp . 80 : goto service-2QRHZV4L-default/web/tcp/80, 10.96.0.10 . udp . 5000 : goto service-9GKJ2T3B-default/web/udp/5000 } }
  chain filter-prerouting { type filter hook prerouting priority -110; policy accept; ct state new jump firewall-check; }
  chain filter-forward { type filter hook forward priority -110; policy accept; ct state new jump service-endpoints-check; ct state new jump cluster-ips-check; }
  chain filter-output { type filter hook output priority -110; policy accept; ct state new jump service-endpoints-check; ct state new jump firewall-check; }
  chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services; }
  chain nat-output { type nat hook output priority -100; policy accept; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; policy accept; jump masquerading; }
  chain firewall-check { }
  chain service-endpoints-check { }
  chain cluster-ips-check { ip daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"; }
  chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
  chain masquerading { mark and 0x4000 == 0 return; mark set mark xor 0x4000; masquerade fully-random; }
  chain mark-for-masquerade { mark set mark or 0x4000; }
  chain service-2QRHZV4L-default/web/tcp/80 { numgen random mod 1 vmap { 0 : goto endpoint-5OJB2KTY-default/web/tcp/80__SERVER__/80 }; }
  chain endpoint-5OJB2KTY-default/web/tcp/80__SERVER__/80 { ip saddr SERVER jump mark-for-masquerade; meta l4proto tcp dnat to SERVER:80; }
  chain service-9GKJ2T3B-default/web/udp/5000 { numgen random mod 1 vmap { 0 : goto endpoint-6PKC3LUZ-default/web/udp/5000__SERVER__/5000 }; }
  chain endpoint-6PKC3LUZ-default/web/udp/5000__SERVER__/5000 { ip saddr SERVER jump mark-for-masquerade; meta l4proto udp dnat to SERVER:5000; }
 }
"""

# In the words of iptables-restore, which writes them by way of nftables as the tables `ip nat` and `ip filter`.
KUBE_PROXY_IPTABLES = """*nat
:KUBE-SERVICES - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SVC-TCOU7JCQXEZGVUNU - [0:0]
:KUBE-SEP-XT2HXHGPWGIZVT7D - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SERVICES -d 10.97.0.10/32 -p tcp -m comment --comment "default/old:web cluster IP" -m tcp --dport 80 -j KUBE-SVC-TCOU7JCQXEZGVUNU
-A KUBE-SVC-TCOU7JCQXEZGVUNU -m comment --comment "default/old:web -> SERVER:80" -j KUBE-SEP-XT2HXHGPWGIZVT7D
-A KUBE-SEP-XT2HXHGPWGIZVT7D -s SERVER/32 -m comment --comment "default/old:web" -j KUBE-MARK-MASQ
-A KUBE-SEP-XT2HXHGPWGIZVT7D -p tcp -m comment --comment "default/old:web" -m tcp -j DNAT --to-destination SERVER:80
COMMIT
*filter
:KUBE-FORWARD - [0:0]
:KUBE-FIREWALL - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
COMMIT
"""

# Docker's own network beside ours; FORWARD drops what nobody accepts, as Docker sets it.
DOCKER_IPTABLES = """*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
COMMIT
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
COMMIT
"""
DOCKER_USER = ("-i cali+ -j ACCEPT", "-o cali+ -j ACCEPT")

# Workloads' interfaces are in the zone `trusted`, as firewalld's own documentation of container networks has it.
FIREWALLD = """
table inet firewalld {
  chain mangle_PREROUTING { type filter hook prerouting priority -140; policy accept; jump mangle_PREROUTING_ZONES; }
  chain mangle_PREROUTING_ZONES { iifname "cali*" goto mangle_PRE_trusted; goto mangle_PRE_public; }
  chain mangle_PRE_trusted { }
  chain mangle_PRE_public { }
  chain nat_PREROUTING { type nat hook prerouting priority -90; policy accept;; }
  chain nat_POSTROUTING { type nat hook postrouting priority 110; policy accept;; }
  chain filter_PREROUTING { type filter hook prerouting priority 10; policy accept; icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept; meta nfproto ipv6 fib saddr . mark . iif oif missing drop; }
  chain filter_INPUT { type filter hook input priority 10; policy accept; ct state { established, related } accept; ct status dnat accept; iifname "lo" accept; ct state invalid drop; jump filter_INPUT_ZONES; reject with icmpx admin-prohibited; }
  chain filter_INPUT_ZONES { iifname "cali*" goto filter_IN_trusted; goto filter_IN_public; }
  chain filter_IN_trusted { accept; }
  chain filter_IN_public { tcp dport 22 ct state { new, untracked } accept; meta l4proto { icmp, ipv6-icmp } accept; }
  chain filter_FORWARD { type filter hook forward priority 10; policy accept; ct state { established, related } accept; ct status dnat accept; iifname "lo" accept; ct state invalid drop; jump filter_FORWARD_ZONES; reject with icmpx admin-prohibited; }
  chain filter_FORWARD_ZONES { iifname "cali*" goto filter_FWD_trusted; goto filter_FWD_public; }
  chain filter_FWD_trusted { accept; }
  chain filter_FWD_public { }
  chain filter_OUTPUT { type filter hook output priority 10; policy accept;; }
 }
"""
