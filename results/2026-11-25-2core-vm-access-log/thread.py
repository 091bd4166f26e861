#!/usr/bin/env python3
"""thr.py ROUNDS N BIN...: CPU ns of the log thread and of all per request, rounds interleaved; gateway on core 0, load on core 1"""
import subprocess,sys,os,time,socket,signal,statistics
rounds,n=int(sys.argv[1]),int(sys.argv[2]); bins=sys.argv[3:]
load='target/release/ringgate-load'
def port():
    s=socket.socket(); s.bind(('127.0.0.1',0)); p=s.getsockname()[1]; s.close(); return p
up=port()
u=subprocess.Popen(['taskset','-c','1',load,'upstream','--listen',f'127.0.0.1:{up}'],stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL)
T=open('ringgate.toml').read()
import re
G=[]
for i,b in enumerate(bins):
  for mode in ('log','off'):
    lp,ap=port(),port()
    t=T
    ports=re.findall(r'127\.0\.0\.1:(\d+)',t)
    t=t.replace(ports[0],str(ap)).replace(ports[1],str(lp)).replace(ports[2],str(up))
    lf=f'/tmp/thr{i}.log'
    t=re.sub(r'path = ".*access.log"',f'path = "{lf if mode=="log" else "off"}"',t)
    if os.path.exists(lf): os.unlink(lf)
    f=f'/tmp/thr{i}{mode}.toml'; open(f,'w').write(t)
    p=subprocess.Popen(['taskset','-c','0',b,'run','-c',f],stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL)
    for _ in range(100):
        try: socket.create_connection(('127.0.0.1',lp)).close(); break
        except OSError: time.sleep(.05)
    G.append((b,mode,p,lp,[],[],[]))
def cpu(p):
    d={}
    for t in os.listdir(f'/proc/{p.pid}/task'):
        c=open(f'/proc/{p.pid}/task/{t}/comm').read().strip()
        d[c]=d.get(c,0)+int(open(f'/proc/{p.pid}/task/{t}/schedstat').read().split()[0])
    return d
def io(p):
    return {l.split(':')[0]:int(l.split(':')[1]) for l in open(f'/proc/{p.pid}/io')}
for b,m,p,lp,*_ in G:
    subprocess.run(['taskset','-c','1',load,'-c','64','-t','1','-n','5000',f'http://127.0.0.1:{lp}/bytes/128'],capture_output=True)
try:
  for r in range(rounds):
    for k in range(len(G)):
        b,m,p,lp,A,B,C=G[(k+r)%len(G)]
        time.sleep(.1); a=cpu(p); i0=io(p)
        subprocess.run(['taskset','-c','1',load,'-c','64','-t','1','-n',str(n),f'http://127.0.0.1:{lp}/bytes/128'],capture_output=True)
        time.sleep(.12); z=cpu(p); i1=io(p)
        A.append((z.get('ringgate-log',0)-a.get('ringgate-log',0))/n)
        B.append((sum(z.values())-sum(a.values()))/n)
        C.append(((i1['syscw']-i0['syscw']), (i1['wchar']-i0['wchar'])/max(1,i1['syscw']-i0['syscw'])))
finally:
  for g in G: g[2].kill()
  u.kill()
md=statistics.median
for b,m,p,lp,A,B,C in G:
    print(b,m,'log thread ns/request: median %.0f min %.0f max %.0f'%(md(A),min(A),max(A)),'| all: median %.0f min %.0f max %.0f'%(md(B),min(B),max(B)),'writes',C[-1])
for j in range(0,len(G),2):
    d=[x-y for x,y in zip(G[j][5],G[j+1][5])]
    print(G[j][0],'log-off paired: median %.0f (%.0f to %.0f)'%(md(d),min(d),max(d)))
