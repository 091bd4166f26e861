import subprocess,os,time,socket,statistics,sys
load='target/release/ringgate-load'
def port():
    s=socket.socket(); s.bind(('127.0.0.1',0)); p=s.getsockname()[1]; s.close(); return p
up=port()
u=subprocess.Popen(['taskset','-c','1',load,'upstream','--listen',f'127.0.0.1:{up}'],stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL)
G=[]
for name,b in (('before','before/ringgate'),('after','after/ringgate'),('nginx',None)):
    lp,ap=port(),port()
    if b:
        t=open('ringgate.toml').read().replace('38112',str(ap)).replace('38113',str(lp)).replace('38111',str(up)); f=f'alt{name}.toml'; open(f,'w').write(t)
        p=subprocess.Popen(['taskset','-c','0',b,'run','-c',f],stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL)
    else:
        t=open('nginx.conf').read().replace('38113',str(lp)).replace('38111',str(up)); open('/tmp/ng/alt.conf','w').write(t)
        p=subprocess.Popen(['taskset','-c','0','nginx','-c','/tmp/ng/alt.conf'],stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL)
    for _ in range(100):
        try: socket.create_connection(('127.0.0.1',lp)).close(); break
        except OSError: time.sleep(.05)
    G.append((name,p,lp,{}))
def cpu(p): return sum(int(open(f'/proc/{p.pid}/task/{t}/schedstat').read().split()[0]) for t in os.listdir(f'/proc/{p.pid}/task'))
try:
  for case,extra,n in (('close',['--no-keepalive'],2500),('post64k',['-b','@/tmp/64k'],2500)):
    for r in range(int(sys.argv[1])+1):
        for k in range(len(G)):
            name,p,lp,R=G[(k+r)%len(G)]
            a=cpu(p); subprocess.run(['taskset','-c','1',load,'-c','64','-t','1','-n',str(n),*extra,f'http://127.0.0.1:{lp}/bytes/128'],capture_output=True)
            if r: R.setdefault(case,[]).append((cpu(p)-a)/n/1000)
finally:
  for g in G: g[1].kill()
  u.kill()
for name,p,lp,R in G:
    for c,v in R.items(): print(name,c,'us: median %.1f min %.1f max %.1f'%(statistics.median(v),min(v),max(v)))
for c in ('close','post64k'):
    for o in (0,2): print(c,'after/'+G[o][0],'%.3f'%statistics.median([x/y for x,y in zip(G[1][3][c],G[o][3][c])]))
