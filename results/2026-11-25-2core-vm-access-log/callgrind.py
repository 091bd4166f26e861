#!/usr/bin/env python3
"""cg.py BIN MODE OUT [N] : MODE of log nolog refuse close"""
import subprocess,sys,os,time,socket,re,signal
binary,mode,out=sys.argv[1:4]; n=int(sys.argv[4]) if len(sys.argv)>4 else 20000
load=os.environ.get('LOAD','target/release/ringgate-load')
def port():
    s=socket.socket(); s.bind(('127.0.0.1',0)); p=s.getsockname()[1]; s.close(); return p
lp,up,ap=port(),port(),port()
lim='rate = "1/h"\nburst = 1' if mode=='refuse' else 'rate = "1000000/s"\nburst = 1000000'
logp=out+'.access.log'
if os.path.exists(logp): os.unlink(logp)
cfg=f'''version = 1
[runtime]
workers = 1
[admin]
listen = "127.0.0.1:{ap}"
[log.access]
path = "{logp if mode.startswith('log') else 'off'}"
[[listeners]]
name = "web"
address = "127.0.0.1:{lp}"
idle_timeout = "10m"
[upstreams.be]
endpoints = [{{ address = "127.0.0.1:{up}" }}]
keepalive_timeout = "5m"
keepalive_max = 512
max_connections = 20000
[limits.by_client]
{lim}
[limits.by_client_and_route]
key = ["client_ip", "route"]
rate = "1000000/s"
burst = 1000000
[[routes]]
name = "all"
upstream = "be"
limits = ["by_client", "by_client_and_route"]
'''
open(out+'.toml','w').write(cfg)
u=subprocess.Popen([load,'upstream','--listen',f'127.0.0.1:{up}'],stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL)
cg=out+'.cg'
for f in os.listdir(os.path.dirname(out)):
    if f.startswith(os.path.basename(cg)): os.unlink(os.path.join(os.path.dirname(out),f))
g=subprocess.Popen(['valgrind','--tool=callgrind','--instr-atstart=no','--separate-threads=yes','--fair-sched=yes','--callgrind-out-file='+cg,binary,'run','-c',out+'.toml'],stdout=subprocess.DEVNULL,stderr=open(out+'.err','w'))
url=f'http://127.0.0.1:{lp}/bytes/128'
def wait():
    for _ in range(600):
        try:
            socket.create_connection(('127.0.0.1',lp)).close(); return
        except OSError: time.sleep(.1)
    raise SystemExit('no start')
wait()
extra=['--no-keepalive'] if mode=='close' else []
def run(k): return subprocess.run([load,'-c','16','-t','1','-n',str(k)]+extra+[url],capture_output=True,text=True)
run(2000)
ctl=lambda x: subprocess.run(['callgrind_control','-i',x,str(g.pid)],capture_output=True)
lines=lambda: open(logp,'rb').read().count(b'\n') if os.path.exists(logp) else 0
def ctl2(*a):
    t=subprocess.Popen([load,'-c','2','-t','1','-r','500','-d','4s',url],stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL)
    time.sleep(.3)
    subprocess.run(['callgrind_control',*a,str(g.pid)],capture_output=True); t.kill()
ctl('on'); l0=lines(); r=run(n); l1=lines()
ctl2('-i','off'); ctl2('-d'); g.kill(); g.wait(); u.kill()
tot=0
for f in sorted(os.listdir(os.path.dirname(out))):
    if f.startswith(os.path.basename(cg)):
        t=open(os.path.join(os.path.dirname(out),f)).read()
        m=re.findall(r'^totals: (\d+)',t,re.M); s=sum(map(int,m)); tot+=s
        if s>1000: print(f, s/n)
print('lines',l1-l0); print('total per request',tot/n); 
if '-v' in sys.argv: print(r.stdout[-600:])
